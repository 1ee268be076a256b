"""A Flower app that trains with TensorFlow."""
