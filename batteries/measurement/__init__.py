"""Figures of a cell: measured on a probe, beside baselines, and by a linear read-out."""
