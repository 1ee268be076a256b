"""Encodings of a client's update: fewer bytes, and the vector that a server reads from them."""
