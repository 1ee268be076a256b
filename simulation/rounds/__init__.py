"""The round loop, and what trains one round."""
