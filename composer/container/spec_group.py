"""Group of cells of one spec: a stack of weights, and the batched forward over it in chunks of bounded memory.

Legend: C cells, B images, N patches of an image, V rows, D width.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from einops import reduce
from torch import Tensor, nn

from batteries.cell.spec import CellSpec
from batteries.engine import dispatch, parallel
from batteries.engine.torch_settings import uncast
from batteries.model import spectral
from composer.container.batched_forward import Stage
from composer.container.frozen_weights import Stack
from composer.container.outputs import TAPS
from composer.vocabulary import Grid

CHUNK_BYTES = 32 * 2**20  # of intermediate values at a time, to fit the caches; docs/decisions/0013-fast-container.md
SMALLEST = 2**20  # bytes of a chunk from which a thread pays off


class Group(nn.Module):
    """Frozen cells of one spec.

    Args:
        spec: Spec of the cells.
        stack: Weights of the cells.
    """

    def __init__(self, spec: CellSpec, stack: Stack) -> None:
        super().__init__()
        self.spec = spec
        self.stack = stack

    def __repr__(self) -> str:
        return f"Group({self.spec!r})"

    def forward(self, images: Tensor, chosen: Sequence[int], taps: frozenset[str], chunk_bytes: int) -> dict[str, Tensor]:
        """Run some of the cells on images (B, channels, height, width), which have been checked.

        Args:
            images: Images in the stack's dtype and on its device.
            chosen: Indices of the cells in the stack.
            taps: Names of the tensors to return; nothing is decoded without ``recon``.
            chunk_bytes: Limit on intermediate values in memory at a time, outputs not included.

        Returns:
            Tensors (C, B, ...) by tap; with ``recon`` also ``patch_error`` (C, B, N).
        """
        with uncast(images.device):
            found = self._forward(images, chosen, taps, chunk_bytes)
        return {tap: found[tap] for tap in (*TAPS, "patch_error") if tap in found}  # in the same order by all code paths

    def decode(self, place: int, M: Tensor, grid: Grid, omega: Tensor | None) -> Tensor:
        """Decode M (B, N, V, D) with a given or its own omega (B, N, D) in one cell: (B, channels, height, width).

        Raises:
            InputError: omega for a decoder that does not read it (``OMEGA``).
        """
        stage, stacked = Stage.of(self.spec, self.stack.chosen([place]), M, M if omega is None else omega), M[None]
        with uncast(M.device):
            own = stage.bottleneck
            gated = own.gated(stacked, stage) if omega is None else own.with_omega(stacked, omega[None])
            return stage.images(gated, grid)[0]

    def _forward(self, images: Tensor, chosen: Sequence[int], taps: frozenset[str], chunk_bytes: int) -> dict[str, Tensor]:
        grid = self.spec.grid(images.shape[2], images.shape[3])
        if dispatch.followed(images):  # a compiler manages memory itself, and cannot loop over a batch of unknown size
            return _run(Stage(self.spec, self.stack.chosen(chosen), compiled=False), images, grid, taps)
        cells, batch = self._piece(images, len(chosen), grid, chunk_bytes)
        tracked = torch.is_grad_enabled() and images.requires_grad
        recon = images.new_empty(len(chosen), *images.shape) if "recon" in taps and not tracked else None
        collected = _Collected((len(chosen), len(images)), recon)
        starts = range(0, max(1, len(images)), batch)

        def work(corner: tuple[int, int]) -> None:
            first, start = corner
            some = images[start : start + batch]
            stage = Stage.of(self.spec, self.stack.chosen(chosen[first : first + cells]), some)
            out = None if recon is None else recon[first : first + cells, start : start + batch]
            collected.add(corner, _run(stage, some, grid, taps, out))

        corners = [(first, start) for first in range(0, len(chosen), cells) for start in starts]
        if images.device.type == "cpu" and not tracked:
            parallel.run(corners, work)
        else:
            for corner in corners:
                work(corner)
        return collected.whole()

    def working_bytes(self, grid: Grid) -> int:
        """Estimate the bytes of intermediate values of one cell and one image: matrices, hidden layers and frames."""
        s = self.spec
        numbers = 4 * s.V * s.D + 4 * s.hidden + 3 * s.patch_dim
        return grid[0] * grid[1] * (numbers * self.stack.dtype.itemsize + 8 * s.D**2)

    def _piece(self, images: Tensor, cells: int, grid: Grid, chunk_bytes: int) -> tuple[int, int]:
        """Choose the numbers of cells and of images of a chunk, given that several chunks may run at once."""
        whole = cells * len(images) * self.working_bytes(grid)
        threads = parallel.workers(-(-whole // SMALLEST))
        pairs = max(1, min(chunk_bytes, whole) // threads // self.working_bytes(grid))
        batch = min(len(images), pairs) if self.spec.row_norm != "scale" else len(images)  # that norm is over the whole batch
        return max(1, min(cells, pairs // max(1, batch))), max(1, batch)


class _Collected:
    """Collector of chunks (c, b, ...) into tensors (C, B, ...): in place, or by concatenation if autograd records it.

    Args:
        shape: Numbers (C, B) of cells and images.
        recon: Tensor to which the chunks write their reconstructions directly, if any.
    """

    def __init__(self, shape: tuple[int, int], recon: Tensor | None) -> None:
        self._shape = shape
        self._pieces: dict[tuple[int, int], dict[str, Tensor]] = {}
        self._whole = {} if recon is None else {"recon": recon}
        self._lock = threading.Lock()

    def add(self, corner: tuple[int, int], piece: dict[str, Tensor]) -> None:
        """Add a chunk, given the indices of its first cell and image."""
        some = next(iter(piece.values()))
        if some.shape[:2] == self._shape:
            self._whole.update(piece)
        elif torch.is_grad_enabled() and any(tensor.requires_grad for tensor in piece.values()):
            self._pieces[corner] = piece
        else:
            self._write(corner, piece)

    def whole(self) -> dict[str, Tensor]:
        """Return the joined tensors by tap."""
        if not self._pieces:
            return self._whole
        firsts, starts = (sorted({corner[axis] for corner in self._pieces}) for axis in (0, 1))
        rows = [[self._pieces[first, start] for start in starts] for first in firsts]
        return {tap: torch.cat([torch.cat([piece[tap] for piece in row], dim=1) for row in rows]) for tap in rows[0][0]}

    def _write(self, corner: tuple[int, int], piece: dict[str, Tensor]) -> None:
        with self._lock:
            for tap, tensor in piece.items():
                if tap not in self._whole:
                    self._whole[tap] = tensor.new_empty(*self._shape, *tensor.shape[2:])
        first, start = corner
        for tap, tensor in piece.items():
            self._whole[tap][first : first + tensor.shape[0], start : start + tensor.shape[1]] = tensor


def _run(stage: Stage, images: Tensor, grid: Grid, taps: frozenset[str], out: Tensor | None = None) -> dict[str, Tensor]:
    """Compute the taps of one chunk, and no more than they need; write reconstructions to ``out`` if given."""
    M = stage.matrices(images)
    if taps == {"M"}:
        return {"M": M}
    if "recon" not in taps:
        S = spectral.singular_values(M)
        omega = {"omega": stage.bottleneck.omega(S, stage)} if "omega" in taps else {}
        return {tap: tensor for tap, tensor in {"M": M, "S": S, **omega}.items() if tap in taps}
    gated = stage.bottleneck.gated(M, stage)
    recon = stage.images(gated, grid, out)
    found = {"M": M} | ({"recon": recon} if out is None else {})
    if taps & {"S", "omega"}:
        found["S"], found["omega"] = stage.bottleneck.tokens(M, gated)
    return {tap: tensor for tap, tensor in found.items() if tap in taps} | {"patch_error": _patch_error(recon, images, grid)}


def _patch_error(recon: Tensor, images: Tensor, grid: Grid) -> Tensor:
    """Compute the mean squared error (C, B, N) of every patch, reducing lines first, in the order of memory."""
    change = recon - images
    squares = change.square() if dispatch.followed(images) else change.square_()  # transforms refuse in-place operators
    lines = reduce(squares, "C B c (gh p) w -> C B c gh w", "mean", gh=grid[0])
    return reduce(reduce(lines, "C B c gh w -> C B gh w", "mean"), "C B gh (gw q) -> C B (gh gw)", "mean", gw=grid[1])
