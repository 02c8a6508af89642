"""Procrustes of many pairs at once, against scipy's, one pair at a time."""

from __future__ import annotations

from functools import partial

import torch
from scipy.spatial import procrustes as scipy_procrustes
from torch import Tensor

from benchmarks.harness import Pair
from composer import procrustes

TARGET = 10.0
PAIRS = 512
WIDTHS = {"HIGH": 4, "MID": 8, "LOW": 16}
ROWS = (64, 256)  # 4 and 16 images of 64x64, on 16 regions


def pairs(smoke: bool) -> list[Pair]:
    """Return the fits of centre, scale, rotation and residual, by band and rows."""
    found = []
    for band, D in WIDTHS.items():
        for rows in ROWS:
            count = 4 if smoke else PAIRS
            ends = _tokens(count, rows, D)
            title = f"{count} pairs, {band} (D={D}), {rows} rows"
            found.append(Pair(title, partial(procrustes.fit, *ends), partial(_one_by_one, *ends), TARGET))
    return found


def _tokens(count: int, rows: int, D: int) -> tuple[Tensor, Tensor]:
    """Make tokens of cells that see one signal, each rotated and with its own noise."""
    generator = torch.Generator().manual_seed(0)
    hidden, *noise = torch.randn(3, count, rows, D, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(count, D, D, generator=generator, dtype=torch.float64)).Q
    return hidden + 0.5 * noise[0], (hidden + 0.5 * noise[1]) @ turn


def _one_by_one(source: Tensor, target: Tensor) -> list[float]:
    ends = zip(target.numpy(), source.numpy(), strict=True)
    return [float(scipy_procrustes(one, other)[2]) for one, other in ends]
