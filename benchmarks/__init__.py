"""Ratios of two ways to do one thing, measured in one run: ``python -m benchmarks [SUBJECT...] [--smoke] [--write]``."""
