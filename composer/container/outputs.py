"""What a container makes of a batch of images, by group of cells, and as each cell's own.

Legend: C cells of a group, B images, N patches of an image, V rows, D width.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.proxy import TracerBase

from batteries.engine import pytrees
from batteries.errors import InputError, NotFoundError, PolicyError
from composer.vocabulary import Grid

TAPS = ("M", "S", "omega", "recon")
USUAL = ("omega", "recon")
AXES = {"M": 5, "S": 4, "omega": 4, "recon": 5, "aligned": 4, "patch_error": 3, "variance": 1}


@dataclass(frozen=True, eq=False)
class GroupOutput:
    """What the cells of one spec make of a batch.

    Attributes:
        names: Of the cells.
        grid: Rows and columns of patches.
        found: Tensors by tap, (C, B, ...), and with them ``aligned`` and ``patch_error`` where omega and recon were tapped;
            with recon also ``variance`` (B,) of the values of each image.
    """

    names: tuple[str, ...]
    grid: Grid
    found: Mapping[str, Tensor]

    def to(self, dtype: torch.dtype) -> GroupOutput:
        """The same in another dtype."""
        return replace(self, found={tap: tensor.to(dtype) for tap, tensor in self.found.items()})

    def tensor(self, tap: str) -> Tensor:
        """One of the tensors.

        Raises:
            PolicyError: it was not tapped (``NO_TAP``).
        """
        if tap not in self.found:
            wanted = {"aligned": "omega", "patch_error": "recon", "variance": "recon"}.get(tap, tap)
            remedy = f"Name it: container(images, taps=(..., {wanted!r}))."
            raise PolicyError("not tapped", code="NO_TAP", expected=" | ".join(self.found), found=tap, remedy=remedy)
        return self.found[tap]


@dataclass(frozen=True)
class CellOutput:
    """What one cell of a container makes of a batch. What was not tapped raises :class:`~batteries.errors.PolicyError`.

    Attributes:
        group: Holds it.
        index: Its place there.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "high/fresnel-64"))
    >>> cell = model(batteries.probe("photos-64").images[:4], taps=["M", "recon"])["low/fresnel-64"]
    >>> cell.grid, cell.M.shape, cell.patch_error.shape
    ((4, 4), torch.Size([4, 16, 64, 16]), torch.Size([4, 16]))
    """

    group: GroupOutput = field(repr=False)
    index: int

    @property
    def grid(self) -> Grid:
        """Rows and columns of patches."""
        return self.group.grid

    @property
    def M(self) -> Tensor:
        """(B, N, V, D): rows of the patches' matrices."""
        return self.group.tensor("M")[self.index]

    @property
    def S(self) -> Tensor:
        """(B, N, D): their singular values."""
        return self.group.tensor("S")[self.index]

    @property
    def omega(self) -> Tensor:
        """(B, N, D): after cross-attention, in the cell's own coordinates."""
        return self.group.tensor("omega")[self.index]

    @property
    def aligned(self) -> Tensor:
        """(B, N, frame width): omega mapped into the consensus frame; ``omega`` itself where nothing was aligned."""
        return self.group.tensor("aligned")[self.index]

    @property
    def recon(self) -> Tensor:
        """(B, channels, height, width)."""
        return self.group.tensor("recon")[self.index]

    @property
    def patch_error(self) -> Tensor:
        """(B, N): mean squared error of every patch."""
        return self.group.tensor("patch_error")[self.index]


class ContainerOutput(Mapping[str, CellOutput]):
    """The outputs of all cells, by name and in order.

    Args:
        groups: One per spec.
        names: The order of the cells.

    Attributes:
        groups: As given: (C, B, ...) tensors, for whoever computes over many cells.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "high/fresnel-64"))
    >>> out = model(batteries.probe("photos-64").images[:4])
    >>> [*out], out.recon.shape, out.error.shape
    (['low/fresnel-64', 'high/fresnel-64'], torch.Size([4, 2, 3, 64, 64]), torch.Size([4, 2]))
    """

    def __init__(self, groups: Sequence[GroupOutput], names: Sequence[str]) -> None:
        self.groups = tuple(groups)
        self._names = tuple(names)
        places = {name: CellOutput(group, index) for group in groups for index, name in enumerate(group.names)}
        self._cells = {name: places[name] for name in names}

    def __getitem__(self, name: str) -> CellOutput:
        if name not in self._cells:
            raise NotFoundError("no such cell in this container", code="NO_CELL", expected=" | ".join(self), found=name)
        return self._cells[name]

    def __contains__(self, name: object) -> bool:
        return name in self._cells

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)

    def __fx_create_arg__(self, tracer: TracerBase) -> Node:
        """As torch.fx writes it into a graph that returns it."""
        given = tuple(tracer.create_arg(part) for part in (self.groups, self._names))
        return tracer.create_node("call_function", ContainerOutput, given, {})

    @property
    def cells(self) -> ContainerOutput:
        """Itself, as a composition's output has those of its cells."""
        return self

    @property
    def nodes(self) -> Mapping[str, Any]:
        """The one node of cells side by side, as a composition's output has its own."""
        return {node_of_all(self._names): self}

    @property
    def output(self) -> ContainerOutput:
        """Itself: what cells side by side make, as a composition's output is that of its last node."""
        return self

    @property
    def omega(self) -> tuple[Tensor, ...]:
        """Per cell (B, N, width): omega mapped into the consensus frame."""
        return tuple(cell.aligned for cell in self.values())

    @property
    def patch_error(self) -> tuple[Tensor, ...]:
        """Per cell (B, N): mean squared error of every patch."""
        return tuple(cell.patch_error for cell in self.values())

    @property
    def recon(self) -> Tensor:
        """(B, cells, channels, height, width): every cell's reconstruction."""
        return self._in_order([group.tensor("recon") for group in self.groups])

    @property
    def error(self) -> Tensor:
        """(B, cells): every cell's mean squared error of every image."""
        return self._in_order([group.tensor("patch_error").mean(dim=2) for group in self.groups])

    @property
    def relative_error(self) -> Tensor:
        """(B, cells): the error over the variance of the image's values, over pixels and channels.

        0 is a perfect copy, 1 no better than one constant colour. It does not change with the scale of the images, as the error
        does. An image without variance has inf, or NaN where its error is 0 too.
        """
        variance = self.groups[0].tensor("variance")
        return self.error / variance[:, None]

    def to(self, dtype: torch.dtype) -> ContainerOutput:
        """The same in another dtype."""
        return ContainerOutput([group.to(dtype) for group in self.groups], self._names)

    def _in_order(self, parts: Sequence[Tensor]) -> Tensor:
        """(C, B, ...) of every group as (B, cells, ...) in the order of the names; a view where there is one group."""
        stacked = parts[0] if len(parts) == 1 else torch.cat(list(parts))
        present = [name for group in self.groups for name in group.names]
        if present != list(self._names):
            rank = {name: index for index, name in enumerate(present)}
            stacked = stacked[[rank[name] for name in self._names]]
        return stacked.transpose(0, 1)


def refuse_more_axes(axes: int, *given: Any) -> None:
    """Outputs are read by the place of their axes, which those of a transform come in front of or behind.

    Raises:
        InputError: tensors of another number of axes (``AXES``). What is put in the place of tensors passes.
    """
    found = [part.ndim for part in given if isinstance(part, Tensor) and part.ndim != axes]
    if found:
        remedy = "Transform a function that returns tensors: vmap(lambda x: container(x).recon)(...)."
        raise InputError("outputs with axes of a transform", code="AXES", expected=axes, found=found[0], remedy=remedy)


def _group(found: Mapping[str, Tensor], names: tuple[str, ...], grid: Grid) -> GroupOutput:
    for tap, tensor in found.items():
        refuse_more_axes(AXES[tap], tensor)
    return GroupOutput(names, grid, found)


pytrees.register(GroupOutput, lambda made: ([dict(made.found)], (made.names, made.grid)), _group)
pytrees.register_fields(CellOutput, ("group",), ("index",))
pytrees.register(ContainerOutput, lambda made: ([made.groups], (tuple(made),)), ContainerOutput)


def node_of_all(names: Collection[str]) -> str:
    """Name of the node that has all cells side by side: ``all``, or another where a cell has that one."""
    others = itertools.chain(["all"], (f"all.{number}" for number in itertools.count(2)))
    return next(name for name in others if name not in names)


def checked_taps(taps: Collection[str]) -> frozenset[str]:
    """Taps, if there are such.

    Raises:
        PolicyError: none, or one that a cell does not have (``NO_TAP``).
    """
    listed = not isinstance(taps, str) and isinstance(taps, Collection)
    unknown = sorted(map(str, set(taps) - set(TAPS))) if listed else []
    if unknown or not taps or not listed:
        found = ", ".join(unknown) or "none" if listed else repr(taps)
        raise PolicyError("no such tap", code="NO_TAP", expected=f"some of {', '.join(TAPS)}", found=found)
    return frozenset(taps)
