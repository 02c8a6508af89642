"""Inspections and comparisons of cells as tables and as a page."""
