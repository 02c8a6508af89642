"""Cells: spec, manifest, weights file, input scale and model card."""
