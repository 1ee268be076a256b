"""The version of the distribution ``sunflower-fl``."""

__version__ = "0.1.0"
