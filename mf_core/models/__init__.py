"""Fitted models and the lists that they make: arrays and NumPy, no TensorFlow."""
