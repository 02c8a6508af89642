"""The vectors that the kernels of composer work in: float32, as many as this processor's registers take at once.

One vector is four registers of AVX-512's thirty-two; the compiler takes it apart. Four rather than one because a multiply-add
needs others beside it to hide its latency, and because a number is then spread once for all four. Elsewhere, with sixteen
registers of half the size or less, it is two or four of those: with four times as many the sums of a convolution would not fit
(23 nanoseconds a pixel became 57).

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

_config: Any = numba.config  # its attributes are made from the environment
FEATURES = binding.get_host_cpu_features().flatten() if _config.CPU_FEATURES is None else _config.CPU_FEATURES  # as numba does
WIDTH = 64 if "+avx512f" in FEATURES else 16  # floats of a vector

floats = vectors(np.float32, WIDTH)
fill, load, load_part = floats.fill, floats.load, floats.load_part
load_several, spread_several, zero_several = floats.load_several, floats.spread_several, floats.zero_several
