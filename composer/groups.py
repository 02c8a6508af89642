"""The cells of one spec: a stack of weights, and the batched forward over it, a bounded piece at a time.

Legend: C cells, B images, N patches of an image, V rows, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from einops import reduce
from torch import Tensor, nn

from batteries import spectral
from batteries.spec import CellSpec
from composer.batched import Grid, Stage
from composer.frozen import Stack

CHUNK_BYTES = 24 * 2**20  # of intermediate values at a time: what stays in the caches; docs/decisions/0013-fast-container.md


class Group(nn.Module):
    """Frozen cells of one spec.

    Args:
        spec: Theirs.
        stack: Their weights.
    """

    def __init__(self, spec: CellSpec, stack: Stack) -> None:
        super().__init__()
        self.spec = spec
        self.stack = stack

    def forward(self, images: Tensor, chosen: Sequence[int], taps: frozenset[str], chunk_bytes: int) -> dict[str, Tensor]:
        """Some of the cells over images (B, channels, height, width), which fit them.

        Args:
            images: In the stack's dtype and on its device.
            chosen: Places in the stack.
            taps: What to return; decoding is left out where ``recon`` is not among them.
            chunk_bytes: Bound on what is in memory at a time beside the outputs.

        Returns:
            By tap (C, B, ...); with ``recon`` also ``patch_error`` (C, B, N).
        """
        grid = self.spec.grid(images.shape[2], images.shape[3])
        if torch.compiler.is_compiling():  # a compiler sees to memory, and wants no loop over a batch of unknown size
            return _run(Stage(self.spec, self.stack.chosen(chosen)), images, grid, taps)
        cells, batch = self._piece(images, len(chosen), grid, chunk_bytes)
        collected = _Collected(len(chosen), len(images))
        for first in range(0, len(chosen), cells):
            stage = Stage(self.spec, self.stack.chosen(chosen[first : first + cells]))
            for start in range(0, max(1, len(images)), batch):
                part = images[start : start + batch]
                collected.add(first, start, _run(stage, part, grid, taps))
        return collected.whole()

    def decode(self, place: int, M: Tensor, grid: Grid, omega: Tensor | None) -> Tensor:
        """The images (B, channels, height, width) that one cell makes of M (B, N, V, D) and of omega (B, N, D), or its own."""
        stage, stacked = Stage(self.spec, self.stack.chosen([place])), M[None]
        found = spectral.spectrum(stacked)
        ratio = stage.factors(found.S) if omega is None else omega[None] / found.S.clamp_min(spectral.SINGULAR_FLOOR)
        return stage.images(spectral.gate(stacked, found, ratio), grid)[0]

    def working_bytes(self, grid: Grid) -> int:
        """Intermediate values of one cell and one image, in bytes, roughly: the matrices, the hidden layers, the frames."""
        s = self.spec
        numbers = 4 * s.V * s.D + 4 * s.hidden + 3 * s.patch_dim
        return grid[0] * grid[1] * (numbers * self.stack.dtype.itemsize + 8 * s.D**2)

    def _piece(self, images: Tensor, cells: int, grid: Grid, chunk_bytes: int) -> tuple[int, int]:
        """How many cells, and how many images, are taken at a time."""
        pairs = max(1, chunk_bytes // self.working_bytes(grid))
        batch = min(len(images), pairs) if self.spec.row_norm != "scale" else len(images)  # whose norm is the whole batch's
        return max(1, min(cells, pairs // max(1, batch))), max(1, batch)


class _Collected:
    """Pieces (c, b, ...) put together to (C, B, ...): in place, or by concatenation where autograd has to see it."""

    def __init__(self, cells: int, images: int) -> None:
        self._shape = cells, images
        self._rows: list[list[Mapping[str, Tensor]]] = []
        self._whole: dict[str, Tensor] = {}

    def add(self, first: int, start: int, piece: dict[str, Tensor]) -> None:
        """A piece whose first cell and image these are; in that order."""
        some = next(iter(piece.values()))
        if some.shape[:2] == self._shape:
            self._whole = piece
        elif torch.is_grad_enabled() and any(tensor.requires_grad for tensor in piece.values()):
            if start == 0:
                self._rows.append([])
            self._rows[-1].append(piece)
        else:
            for tap, tensor in piece.items():
                if tap not in self._whole:
                    self._whole[tap] = tensor.new_empty(*self._shape, *tensor.shape[2:])
                self._whole[tap][first : first + len(tensor), start : start + tensor.shape[1]] = tensor

    def whole(self) -> dict[str, Tensor]:
        """All pieces as one."""
        if not self._rows:
            return self._whole
        taps = self._rows[0][0]
        return {tap: torch.cat([torch.cat([piece[tap] for piece in row], dim=1) for row in self._rows]) for tap in taps}


def _run(stage: Stage, images: Tensor, grid: Grid, taps: frozenset[str]) -> dict[str, Tensor]:
    """One piece: M, then what the taps need of it and nothing more."""
    M = stage.matrices(images)
    if taps == {"M"}:
        return {"M": M}
    if "recon" not in taps:
        S = spectral.singular_values(M)
        omega = {"omega": S * stage.factors(S)} if "omega" in taps else {}
        return {tap: tensor for tap, tensor in {"M": M, "S": S, **omega}.items() if tap in taps}
    spectrum = spectral.spectrum(M)
    ratio = stage.factors(spectrum.S)
    recon = stage.images(spectral.gate(M, spectrum, ratio), grid)
    error = reduce((recon - images).square(), "C B c (gh p) (gw q) -> C B (gh gw)", "mean", gh=grid[0], gw=grid[1])
    found = {"M": M, "S": spectrum.S, "omega": spectrum.S * ratio, "recon": recon}
    return {tap: tensor for tap, tensor in found.items() if tap in taps} | {"patch_error": error}
