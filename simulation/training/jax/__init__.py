"""Local training with Keras on JAX: clients side by side, in lanes."""
