"""The engine on Ray: a pool of actors, on one machine or on a cluster."""
