"""Outputs of a container for a batch of images, by group and by cell.

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

from batteries import short_repr
from batteries.engine import pytrees
from batteries.errors import InputError, PolicyError, UnknownKeyError
from composer.vocabulary import Grid

TAPS = ("M", "S", "omega", "recon")
USUAL = ("omega", "recon")
AXES = {"M": 5, "S": 4, "omega": 4, "recon": 5, "aligned": 4, "patch_error": 3, "variance": 1}


@dataclass(frozen=True, eq=False)
class GroupOutput:
    """Outputs of the cells of one spec for a batch.

    Attributes:
        names: Names of the cells.
        grid: Rows and columns of patches.
        found: Tensors (C, B, ...) by tap; with omega also ``aligned``, and with recon also ``patch_error``, and ``variance``
            (B,) of the values of each image.
    """

    names: tuple[str, ...]
    grid: Grid
    found: Mapping[str, Tensor]

    __repr__ = short_repr.fields

    def to(self, dtype: torch.dtype) -> GroupOutput:
        """Convert the tensors to another dtype."""
        return replace(self, found={tap: tensor.to(dtype) for tap, tensor in self.found.items()})

    def tensor(self, tap: str) -> Tensor:
        """Return the tensor of a tap.

        Raises:
            PolicyError: a tap that was not requested (``NO_TAP``).
        """
        if tap not in self.found:
            wanted = {"aligned": "omega", "patch_error": "recon", "variance": "recon"}.get(tap, tap)
            remedy = f"Request it: container(images, taps=(..., {wanted!r}))."
            raise PolicyError("tap not requested", code="NO_TAP", expected=" | ".join(self.found), found=tap, remedy=remedy)
        return self.found[tap]


@dataclass(frozen=True)
class CellOutput:
    """Output of one cell for a batch; a tap that was not requested raises :class:`~batteries.errors.PolicyError`.

    Attributes:
        group: Output of the cell's group.
        index: Index of the cell in its group.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "high/fresnel-64"))
    >>> cell = model(batteries.probe("photos-64").images[:4], taps=["M", "recon"])["low/fresnel-64"]
    >>> cell.grid, cell.M.shape, cell.patch_error.shape
    ((4, 4), torch.Size([4, 16, 64, 16]), torch.Size([4, 16]))
    """

    group: GroupOutput = field(repr=False)
    index: int

    def __repr__(self) -> str:
        return short_repr.headed(self, f"grid={self.grid}", *self.shapes())

    def shapes(self) -> list[str]:
        """Describe every tensor by its shape."""
        of_cell = {tap: tensor.shape[1:] for tap, tensor in self.group.found.items() if tap != "variance"}
        return [f"{tap}={tuple(shape)}" for tap, shape in of_cell.items()]

    @property
    def grid(self) -> Grid:
        """Rows and columns of patches."""
        return self.group.grid

    @property
    def M(self) -> Tensor:
        """Matrices (B, N, V, D) of the patches, by rows."""
        return self.group.tensor("M")[self.index]

    @property
    def S(self) -> Tensor:
        """Singular values (B, N, D) of M."""
        return self.group.tensor("S")[self.index]

    @property
    def omega(self) -> Tensor:
        """Singular values (B, N, D) after cross-attention, in the cell's own coordinates."""
        return self.group.tensor("omega")[self.index]

    @property
    def aligned(self) -> Tensor:
        """Omega mapped into the consensus frame, (B, N, frame width); plain ``omega`` without an alignment."""
        return self.group.tensor("aligned")[self.index]

    @property
    def recon(self) -> Tensor:
        """Reconstructions (B, channels, height, width)."""
        return self.group.tensor("recon")[self.index]

    @property
    def patch_error(self) -> Tensor:
        """Mean squared error (B, N) of every patch."""
        return self.group.tensor("patch_error")[self.index]


class ContainerOutput(Mapping[str, CellOutput]):
    """Outputs of all cells, by name and in order.

    Args:
        groups: Output of each group, one per spec.
        names: Names of the cells, in order.

    Attributes:
        groups: Output of each group, with tensors (C, B, ...) for batched computation over cells.

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
        if name not in self:
            raise UnknownKeyError("no such cell in this container", code="NO_CELL", expected=" | ".join(self), found=name)
        return self._cells[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._cells

    def __repr__(self) -> str:
        head = f"ContainerOutput({short_repr.counted(len(self), 'cell')})"
        return short_repr.rows(head, [f"{name}: {', '.join(cell.shapes())}" for name, cell in self._cells.items()])

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)

    def __fx_create_arg__(self, tracer: TracerBase) -> Node:
        """Create the node of a torch.fx graph that returns this output."""
        given = tuple(tracer.create_arg(part) for part in (self.groups, self._names))
        return tracer.create_node("call_function", ContainerOutput, given, {})

    @property
    def cells(self) -> ContainerOutput:
        """This output, for the same interface as a composition's output."""
        return self

    @property
    def nodes(self) -> Mapping[str, Any]:
        """Single parallel node of all cells, for the same interface as a composition's output."""
        return {node_of_all(self._names): self}

    @property
    def output(self) -> ContainerOutput:
        """This output, as that of the parallel node, for the same interface as a composition's output."""
        return self

    @property
    def omega(self) -> tuple[Tensor, ...]:
        """Omega of each cell, mapped into the consensus frame, (B, N, width)."""
        return tuple(cell.aligned for cell in self.values())

    @property
    def patch_error(self) -> tuple[Tensor, ...]:
        """Mean squared error (B, N) of every patch, of each cell."""
        return tuple(cell.patch_error for cell in self.values())

    @property
    def recon(self) -> Tensor:
        """Reconstructions of all cells, (B, cells, channels, height, width)."""
        return self._in_order([group.tensor("recon") for group in self.groups])

    @property
    def error(self) -> Tensor:
        """Mean squared error (B, cells) of every image, by cell."""
        return self._in_order([group.tensor("patch_error").mean(dim=2) for group in self.groups])

    @property
    def relative_error(self) -> Tensor:
        """Error (B, cells) divided by the variance of the image's values over pixels and channels.

        0 is a perfect copy, 1 as bad as a constant image. Unlike the error, it does not depend on the scale of the images. For
        an image without variance it is inf, or NaN if the error is 0 too.
        """
        variance = self.groups[0].tensor("variance")
        return self.error / variance[:, None]

    def to(self, dtype: torch.dtype) -> ContainerOutput:
        """Convert the tensors to another dtype."""
        return ContainerOutput([group.to(dtype) for group in self.groups], self._names)

    def _in_order(self, parts: Sequence[Tensor]) -> Tensor:
        """Join the tensors (C, B, ...) of all groups to (B, cells, ...) in the order of names; a view for a single group."""
        stacked = parts[0] if len(parts) == 1 else torch.cat(list(parts))
        present = [name for group in self.groups for name in group.names]
        if present != list(self._names):
            rank = {name: index for index, name in enumerate(present)}
            stacked = stacked[[rank[name] for name in self._names]]
        return stacked.transpose(0, 1)


def refuse_more_axes(axes: int, *given: Any) -> None:
    """Refuse tensors with extra axes of a transform, because outputs are indexed by the position of their axes.

    Raises:
        InputError: tensors with another number of axes (``AXES``); placeholders that are not tensors are accepted.
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
    """Return the name of the parallel node of all cells: ``all``, or ``all.2`` and so on if a cell has that name."""
    others = itertools.chain(["all"], (f"all.{number}" for number in itertools.count(2)))
    return next(name for name in others if name not in names)


def checked_taps(taps: Collection[str]) -> frozenset[str]:
    """Return the taps as a set, if all are known.

    Raises:
        PolicyError: no tap, or an unknown tap (``NO_TAP``).
    """
    listed = not isinstance(taps, str) and isinstance(taps, Collection)
    unknown = sorted(map(str, set(taps) - set(TAPS))) if listed else []
    if unknown or not taps or not listed:
        found = ", ".join(unknown) or "none" if listed else repr(taps)
        raise PolicyError("unknown tap", code="NO_TAP", expected=f"some of {', '.join(TAPS)}", found=found)
    return frozenset(taps)
