"""The frozen container: many cells as one module."""
