"""Data that Sunflower ships, and the script that makes it."""
