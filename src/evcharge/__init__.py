"""evcharge runs a network of electric-vehicle charge points."""

__version__ = "0.1.0"
