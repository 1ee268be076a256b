"""Keras models, whatever library they are computed with: shared by the backends."""
