"""The version of the distribution, readable without importing Keras."""

__version__ = "0.1.0.dev0"
