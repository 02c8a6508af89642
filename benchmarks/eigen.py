"""Batched eigensolver against ``torch.linalg`` on the same float64 batch."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from batteries.kernels import eigensolver
from batteries.model.spectral import RIDGE
from benchmarks.harness import Pair

TARGETS = {(4, 32768): 5.0, (8, 32768): 3.0, (16, 8192): 1.5}
SIZES = {
    4: (1, 64, 2048, 32768),
    8: (1, 64, 2048, 32768),
    16: (1, 64, 2048, 8192),
    32: (1, 64, 2048),
    5: (1, 8192),
    12: (1, 8192),
}
CELLS = {"HIGH": (32, 4, 32768), "MID": (64, 8, 2048), "LOW": (64, 16, 2048)}  # V, D and matrices of 128 images of 64x64
SLOWER = 0.85  # target of "not slower": a batch of one spends a microsecond on choosing the route, and the rest is noise


def pairs(smoke: bool) -> list[Pair]:
    """Return eigh and eigvalsh of Gram matrices, and both from M."""
    found = []
    for kind in ("eigh", "eigvalsh"):
        for D, sizes in SIZES.items():
            for n in sizes[:2] if smoke else sizes:
                gram = _gram(_rows(n, 64, D))
                target = TARGETS.get((D, n), SLOWER) if kind == "eigh" else SLOWER
                ours, reference = (partial(getattr(module, kind), gram) for module in (eigensolver, torch.linalg))
                found.append(Pair(f"{kind}, D={D}, batch {n}", ours, reference, target))
    for name, (V, D, n) in CELLS.items():
        M = _rows(16 if smoke else n, V, D).float()
        title = f"M'M and eigh, {name} (V={V}, D={D}), batch {len(M)}"
        found.append(Pair(title, partial(eigensolver.gram_eigh, M, RIDGE), partial(_plainly, M), SLOWER))
        title = f"M'M and eigvalsh, {name} (V={V}, D={D}), batch {len(M)}"
        found.append(Pair(title, partial(eigensolver.gram_eigvalsh, M, RIDGE), partial(_plain_values, M), SLOWER))
    return found


def _rows(n: int, V: int, D: int) -> Tensor:
    M = torch.randn(n, V, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.nn.functional.normalize(M, dim=-1)


def _gram(M: Tensor) -> Tensor:
    wide = M.double()
    gram = wide.mT @ wide
    gram.diagonal(dim1=-2, dim2=-1).add_(RIDGE)
    return gram


def _plainly(M: Tensor) -> tuple[Tensor, Tensor]:
    return torch.linalg.eigh(_gram(M))


def _plain_values(M: Tensor) -> Tensor:
    return torch.linalg.eigvalsh(_gram(M))
