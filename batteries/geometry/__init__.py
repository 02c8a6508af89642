"""Geometry of a cell: simplex CV, exact attractors, and estimates with their error."""
