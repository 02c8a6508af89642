"""Benchmarks, as ratios of two implementations measured in one run: ``python -m benchmarks``."""
