"""Kernels of containers and alignments, compiled by numba."""
