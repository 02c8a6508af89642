"""Kernels of cells compiled by numba, and their dispatcher. Only this folder and composer/kernels import numba."""
