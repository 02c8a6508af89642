"""Many frozen cells as one module: images in, every cell's tokens, reconstructions and errors out.

Gradients flow through the cells to whatever made the images, and never into the cells. Legend: C cells, B images, N patches
of an image, V rows, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from einops import reduce
from torch import Tensor, nn
from torch.func import functional_call

from batteries import canonical
from batteries.cell import Cell
from batteries.errors import InputError, IntegrityError, NotFoundError, PolicyError
from batteries.model import PatchSVAE, Tokens
from batteries.spec import CellSpec
from composer import tokens
from composer.alignment import Consensus, consensus
from composer.frozen import Stack


@dataclass(frozen=True)
class CellOutput:
    """What one cell of a container makes of a batch.

    Attributes:
        M: (B, N, V, D) rows of the patches' matrices.
        S: (B, N, D) their singular values.
        omega: (B, N, D) after cross-attention, in the cell's own coordinates.
        aligned: (B, N, frame width) omega mapped into the consensus frame; ``omega`` itself where nothing was aligned.
        recon: (B, channels, height, width).
        patch_error: (B, N) mean squared error of every patch.
        grid: Rows and columns of patches.
    """

    M: Tensor
    S: Tensor
    omega: Tensor
    aligned: Tensor
    recon: Tensor
    patch_error: Tensor
    grid: tuple[int, int]


@dataclass(frozen=True)
class ContainerOutput(Mapping[str, CellOutput]):
    """The outputs of all cells, by name and in order.

    Attributes:
        cells: ``band/name`` to output.
    """

    cells: dict[str, CellOutput]

    def __getitem__(self, name: str) -> CellOutput:
        if name not in self.cells:
            raise NotFoundError("no such cell in this container", code="NO_CELL", expected=" | ".join(self.cells), found=name)
        return self.cells[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def omega(self) -> tuple[Tensor, ...]:
        """Per cell (B, N, width): omega mapped into the consensus frame."""
        return tuple(cell.aligned for cell in self.cells.values())

    @property
    def patch_error(self) -> tuple[Tensor, ...]:
        """Per cell (B, N): mean squared error of every patch."""
        return tuple(cell.patch_error for cell in self.cells.values())

    @cached_property
    def recon(self) -> Tensor:
        """(B, C, channels, height, width): every cell's reconstruction."""
        return torch.stack([cell.recon for cell in self.cells.values()], dim=1)

    @cached_property
    def error(self) -> Tensor:
        """(B, C): every cell's mean squared error of every image."""
        return torch.stack([cell.patch_error.mean(dim=1) for cell in self.cells.values()], dim=1)


class Container(nn.Module):
    """Frozen cells behind one interface; made by :func:`compose`.

    It has no parameters, and its state dict carries the cells' digests instead of their weights: loading one into a
    container of other cells is refused.

    Attributes:
        names: ``band/name`` of the cells, in order.
        consensus: The maps into the consensus frame, or None where no probe was given.
    """

    names: tuple[str, ...]
    consensus: Consensus | None

    def __init__(self, cells: Sequence[Cell]) -> None:
        super().__init__()
        _refuse_mixture(cells)
        self.names = tuple(cell.name for cell in cells)
        self.consensus = None
        self.lock = {cell.name: {"sha256": cell.digest, "tensors": cell.manifest.file.tensor_digest} for cell in cells}
        specs = list(dict.fromkeys(cell.spec for cell in cells))
        members = [[cell for cell in cells if cell.spec == spec] for spec in specs]
        self._stacks = nn.ModuleList(Stack([cell.weights for cell in group]) for group in members)
        self._skeletons = tuple(_Skeleton(spec) for spec in specs)
        self._places = {cell.name: (g, i) for g, group in enumerate(members) for i, cell in enumerate(group)}

    def forward(self, images: Tensor) -> ContainerOutput:
        """Every cell's tokens, reconstruction and errors of images (B, channels, height, width).

        The images are in the cells' input scale: photographs as x / 127.5 - 1, noise as generated.

        Raises:
            InputError: other channels, or sides that a cell's patch does not divide.
        """
        images = _plain(images)
        return ContainerOutput({name: self._cell(index, images) for index, name in enumerate(self.names)})

    def tokens(self, images: Tensor) -> dict[str, Tokens]:
        """As :meth:`forward`, without decoding: M, S and omega by cell name."""
        return {name: self._call(name, _plain(images), decode=False)[0] for name in self.names}

    def spec(self, name: str) -> CellSpec:
        """The architecture of one cell."""
        return self._skeletons[self._place(name)[0]].model.spec

    @property
    def digest(self) -> str:
        """One digest over all weights, computed from memory as it is now."""
        return canonical.sha256("\n".join(f"{name} {self._tensor_digest(name)}" for name in self.names).encode())

    def verify(self) -> None:
        """Compare the weights in memory with the digests of the cells.

        Raises:
            IntegrityError: somebody wrote into a cell, around torch.
        """
        changed = [name for name in self.names if self._tensor_digest(name) != self.lock[name]["tensors"]]
        if changed:
            raise IntegrityError(
                "frozen weights that have changed",
                code="CONTAINER_CHANGED",
                found=", ".join(changed),
                remedy="Compose the container again from its cells.",
            )

    def get_extra_state(self) -> dict[str, Any]:
        """The lock: digests by cell name, which a host's state dict carries in place of weights."""
        return {"lock": self.lock}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Check a saved lock against this container's.

        Raises:
            IntegrityError: other cells.
        """
        if state.get("lock") != self.lock:
            raise IntegrityError(
                "a state saved with other cells",
                code="LOCK_MISMATCH",
                expected=", ".join(f"{name} {row['sha256'][:12]}" for name, row in self.lock.items()),
                found=", ".join(f"{name} {row['sha256'][:12]}" for name, row in state.get("lock", {}).items()),
            )

    def _cell(self, index: int, images: Tensor) -> CellOutput:
        name = self.names[index]
        encoded, recon = self._call(name, images, decode=True)
        assert recon is not None
        grid = encoded.grid
        squared = (recon - images).square()
        patch_error = reduce(squared, "B C (gh p) (gw q) -> B (gh gw)", "mean", gh=grid[0], gw=grid[1])
        return CellOutput(encoded.M, encoded.S, encoded.omega, self._aligned(index, encoded.omega), recon, patch_error, grid)

    def _aligned(self, index: int, omega: Tensor) -> Tensor:
        if self.consensus is None:
            return omega
        return self.consensus.maps[index](tokens.pad(omega, self.consensus.width))

    def _call(self, name: str, images: Tensor, *, decode: bool) -> tuple[Tokens, Tensor | None]:
        group, index = self._place(name)
        stack = self._stacks[group]
        assert isinstance(stack, Stack)
        weights = {f"model.{key}": tensor for key, tensor in stack.cell(index).items()}
        found: tuple[Tokens, Tensor | None] = functional_call(self._skeletons[group], weights, (images, decode))
        return found

    def _place(self, name: str) -> tuple[int, int]:
        if name not in self._places:
            raise NotFoundError("no such cell in this container", code="NO_CELL", expected=" | ".join(self.names), found=name)
        return self._places[name]

    def _tensor_digest(self, name: str) -> str:
        group, index = self._place(name)
        stack = self._stacks[group]
        assert isinstance(stack, Stack)
        return stack.digest(index)


def compose(cells: Sequence[Cell], probe: Tensor | None = None, *, seed: int = 0) -> Container:
    """Put cells into one frozen container, and align their omega tokens.

    Args:
        cells: At least one, each name once, of the same channels and input normalisation; specs may differ.
        probe: Images (B, channels, height, width) the alignment is fitted on (all of them) and scored on (halves); left
            out, tokens stay in each cell's own coordinates.
        seed: Of the alignment's halves and shuffles.

    Raises:
        InputError: nothing to compose, a name twice, or a probe that the cells cannot take.
        PolicyError: cells of different channels or input normalisation.
    """
    if not cells:
        raise InputError("nothing to compose", code="NO_CELLS", expected="at least one cell", found="none")
    container = Container(cells)
    if probe is not None:
        container.consensus = align(container, probe, seed=seed)
    return container


@torch.no_grad()
def align(container: Container, images: Tensor, *, seed: int = 0) -> Consensus:
    """Fit and score one map per cell into a consensus frame, on omega paired by image region.

    Tokens of narrower cells are padded with zeros to the widest; finer grids are averaged over the coarsest grid's regions.

    Raises:
        InputError: grids that do not nest, constant tokens, or fewer than four images.
    """
    found = container.tokens(images)
    target = tokens.coarsest([t.grid for t in found.values()])
    width = max(t.omega.shape[-1] for t in found.values())
    pooled = [tokens.pad(tokens.pool(t.omega, t.grid, target), width) for t in found.values()]
    return consensus(pooled, seed=seed)


def _plain(images: Tensor) -> Tensor:
    """Images in the container's dtype; what is not a tensor goes on to the model's own error."""
    return images.float() if isinstance(images, Tensor) else images


class _Skeleton(nn.Module):
    """A model without weights, and one entry to both of its ways; its parameters live on the meta device."""

    def __init__(self, spec: CellSpec) -> None:
        super().__init__()
        with torch.device("meta"):
            self.model = PatchSVAE(spec)

    def forward(self, images: Tensor, decode: bool) -> tuple[Tokens, Tensor | None]:
        if not decode:
            return self.model.tokens(images), None
        encoded = self.model.encode(images)
        return encoded, self.model.decode(encoded)


def _refuse_mixture(cells: Sequence[Cell]) -> None:
    names = [cell.name for cell in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError("a cell given twice", code="TWICE", found=", ".join(twice), remedy="Name each cell once.")
    first = cells[0]
    for cell in cells[1:]:
        for what, mine, theirs in (
            ("channels", first.spec.channels, cell.spec.channels),
            ("input normalisation", first.manifest.identity.input, cell.manifest.identity.input),
        ):
            if mine != theirs:
                raise PolicyError(
                    f"cells of different {what}",
                    code="MIXED_INPUT",
                    expected=f"{mine} as {first.name}",
                    found=theirs,
                    where=cell.name,
                    remedy="Compose them in two containers, and give each its own images.",
                )
