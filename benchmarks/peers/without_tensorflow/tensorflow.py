"""Stands before TensorFlow on the import path of stock Flower's actors that only sleep.

Flower's Simulation Runtime imports TensorFlow in every process where it finds it; 64 of them would
not fit into memory. It does without when this error is raised.
"""

raise ModuleNotFoundError("TensorFlow is kept out of this process", name="tensorflow")
