"""Everything of containers that numba compiles."""
