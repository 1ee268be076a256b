"""Local training with Keras on TensorFlow."""
