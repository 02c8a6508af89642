"""Adoption of many checkpoints: their rows, the names of their cells, and the models of arrays."""
