"""Measurement of cells: figures on a probe, baselines, and linear read-outs."""
