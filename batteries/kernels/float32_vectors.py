"""Float32 vectors for kernels of layers, sized for this processor's registers.

With AVX-512, one vector is 4 of 32 registers, into which the compiler splits it: independent multiply-adds hide each other's
latency, and a number is broadcast once for all four. On other processors, with 16 registers of half the size or less, a vector
is 2 or 4 registers: with vectors four times as wide, the sums of a convolution do not fit (57 nanoseconds per pixel instead of
23).

Importing this module imports numba and llvmlite.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import binding

from batteries.kernels.vectors import vectors

__all__ = ["WIDTH", "fill", "floats", "load", "load_part", "load_several", "spread_several", "zero_several"]

_config: Any = numba.config  # attributes are set dynamically from the environment
FEATURES = binding.get_host_cpu_features().flatten() if _config.CPU_FEATURES is None else _config.CPU_FEATURES  # as in numba
WIDTH = 64 if "+avx512f" in FEATURES else 16  # floats per vector

floats = vectors(np.float32, WIDTH)
fill, load, load_part = floats.fill, floats.load, floats.load_part
load_several, spread_several, zero_several = floats.load_several, floats.spread_several, floats.zero_several
