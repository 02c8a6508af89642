"""Packaging of cells from finished runs or from foreign checkpoints."""
