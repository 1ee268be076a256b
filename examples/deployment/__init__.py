"""A deployment on one machine: a SuperLink, two SuperNodes, and training between processes."""
