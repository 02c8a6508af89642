"""Frozen container: several cells as one module."""
