"""The entries of the catalogue, by what they are for; each module has its own in ``FAMILY``."""
