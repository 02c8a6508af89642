"""Everything of cells that numba compiles, and the dispatcher that finds it. Only this wing and composer's import numba."""
