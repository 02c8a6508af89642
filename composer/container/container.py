"""Container of frozen cells: one module from images to every cell's tokens, reconstructions and errors.

Gradients flow through the cells to the images, and never into the cells' weights. Legend: C cells, B images, N patches of an
image, V rows, D width.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from batteries.arguments import each
from batteries.cell.manifest import InputScale
from batteries.cell.spec import CellSpec
from batteries.errors import InputError, IntegrityError, NotFoundError, UnknownKeyError
from batteries.images.image_batch import judge_scale
from batteries.io import canonical_json
from batteries.model.inputs import taken
from batteries.model.patch_svae import Tokens, grid_of
from composer import grids
from composer.container import extra_state
from composer.container.cell_digests import CellDigests, check_lock
from composer.container.cost import Explanation, GroupCost, encode_flops, flops
from composer.container.named_cells import NamedCells, described
from composer.container.outputs import USUAL, ContainerOutput, GroupOutput, checked_taps
from composer.container.spec_group import CHUNK_BYTES, Group
from composer.procrustes.consensus import Consensus
from composer.vocabulary import Grid


class Container(NamedCells["Container"], nn.Module):
    """Frozen cells behind one interface, made by :func:`composer.compose`.

    It has no parameters, and its state dict holds the cells' digests instead of their weights: a state of other cells is
    refused. It is a mapping from names to containers of one cell, over the same memory.

    Args:
        groups: Groups of cells, one per spec.
        places: Group of each cell and index in it, by name, in the order of the cells.
        lock: Version and digests of each cell, by name.
        scale: Input scale of all cells.

    Attributes:
        names: Names of the cells, in order.
        lock: Version and digests of each cell, by name.
        scale: Input scale of all cells.
        chunk_bytes: Approximate limit on intermediate values in memory at a time.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "high/fresnel-64"))
    >>> out = model(batteries.probe("photos-64").images[:4], taps=["omega"])
    >>> model.names, out["high/fresnel-64"].omega.shape
    (('low/fresnel-64', 'high/fresnel-64'), torch.Size([4, 256, 4]))
    >>> model.cells("low/*").names
    ('low/fresnel-64',)
    """

    def __init__(
        self, groups: Sequence[Group], places: Mapping[str, tuple[int, int]], lock: CellDigests, scale: InputScale
    ) -> None:
        super().__init__()
        self.names = tuple(places)
        self.lock = {name: dict(lock[name]) for name in places}
        self.scale = scale
        self._consensus: Consensus | None = None
        self.chunk_bytes = CHUNK_BYTES
        self._groups = nn.ModuleList(groups)
        self._places = dict(places)

    def __getitem__(self, name: str) -> Container:
        self.place(name)
        return self.part(name)

    def __repr__(self) -> str:
        aligned = [] if self.consensus is None else [f"aligned on {self.consensus.width} axes"]
        return described("Container", {group.spec: names for group, names in self.members()}, aligned)

    @property
    def consensus(self) -> Consensus | None:
        """Maps of omega into the consensus frame; None if the cells were not aligned.

        Raises:
            PolicyError, IntegrityError: on assignment of maps of other tokens, cells or weights, see :meth:`Consensus.check`.
        """
        return self._consensus

    @consensus.setter
    def consensus(self, found: Consensus | None) -> None:
        if found is not None:
            found.check(self.ends)
        self._consensus = found

    @property
    def ends(self) -> dict[str, str]:
        """Digest of each cell's weights by name, as recorded in maps."""
        return {name: row["tensors"] for name, row in self.lock.items()}

    @property
    def container(self) -> Container:
        """This container, so that hosts can mount it or a :class:`composer.Wired` alike."""
        return self

    @property
    def device(self) -> torch.device:
        """Device of the weights; the CPU without cells."""
        return next((group.stack.device for group in self.groups), torch.device("cpu"))

    @property
    def groups(self) -> tuple[Group, ...]:
        """Groups of cells, one per spec."""
        return tuple(group for group in self._groups if isinstance(group, Group))

    def forward(
        self, images: Tensor, taps: str | Collection[str] = USUAL, names: str | Sequence[str] | None = None
    ) -> ContainerOutput:
        """Run every cell on images (B, channels, height, width).

        The images are in the cells' input scale: photographs as x / 127.5 - 1, noise as generated.

        Args:
            images: Images for all cells, converted to the container's dtype; outputs are converted back to that of the images.
            taps: Names among M, S, omega and recon to return. Without ``recon`` nothing is decoded, which saves most of the
                work.
            names: Name or names of the cells to run; defaults to all.

        Raises:
            InputError: images with other channels, or with sides that a cell's patch size does not divide.
            NotFoundError: unknown cell (``NO_CELL``).
            PolicyError: unknown tap (``NO_TAP``).

        Warns:
            ScaleWarning: values that seem to be on another scale, once; see :mod:`batteries.images.image_batch`.
        """
        listed = self.names if names is None else tuple(dict.fromkeys(each([names], (str,))))
        if set(listed) != set(self.names):
            return self.part(listed)(images, taps)
        wanted = checked_taps(taps)
        fitted = self.fitting(images)
        judge_scale(images, self.scale)
        variance = {"variance": _variance(fitted)} if "recon" in wanted else {}
        found = []
        for group, members in self.members():
            tensors = group(fitted, [self._places[name][1] for name in members], wanted, self.chunk_bytes)
            if "omega" in tensors:
                tensors["aligned"] = self._aligned(members, tensors["omega"])
            grid = grid_of(fitted, group.spec)
            found.append(GroupOutput(members, grid, {**tensors, **variance}).to(images.dtype))
        return ContainerOutput(found, self.names)

    def tokens(self, images: Tensor) -> dict[str, Tokens]:
        """Run every cell without decoding, and return M, S and omega by cell name, see :meth:`forward`."""
        out = self(images, ("M", "S", "omega"))
        return {name: Tokens(cell.M, cell.S, cell.omega, cell.grid) for name, cell in out.items()}

    def cells(self, *patterns: str | Iterable[str]) -> Container:
        """Select cells of this container by pattern, over the same memory.

        Args:
            patterns: Names or patterns such as ``low/*``, as separate arguments or a list.

        Raises:
            NotFoundError: a pattern that matches no cell (``NO_CELL``).
        """
        chosen: set[str] = set()
        for pattern in each(patterns, (str,)) or ("",):
            fitting = fnmatch.filter(self.names, pattern) if isinstance(pattern, str) else []
            fitting = [name for name in self.names if name == pattern] or fitting
            if not fitting:
                raise NotFoundError(
                    "no such cell in this container", code="NO_CELL", expected=" | ".join(self.names), found=pattern
                )
            chosen |= set(fitting)
        return self.part([name for name in self.names if name in chosen])

    def part(self, chosen: str | Iterable[str]) -> Container:
        """Select cells by name, in the order given, over the same memory.

        Raises:
            NotFoundError: unknown cell (``NO_CELL``).
        """
        names = each([chosen], (str,))
        part = Container(self.groups, {name: self.place(name) for name in names}, self.lock, self.scale)
        part.chunk_bytes = self.chunk_bytes
        if self.consensus is not None:
            part.consensus = self.consensus.of([self.names.index(name) for name in part.names])
        return part

    def decode(self, name: str, M: Tensor, grid: Grid, omega: Tensor | None = None) -> Tensor:
        """Decode matrices M = U diag(S) V' in one cell as U diag(omega) V', with a given omega or the cell's own.

        Args:
            name: Name of the cell.
            M: Matrices (B, N, V, D).
            grid: Rows and columns of patches.
            omega: Replacement (B, N, D) of omega, for a cell of the readout ``svd``; defaults to the cell's own omega of M.

        Returns:
            Images (B, channels, height, width).

        Raises:
            NotFoundError: unknown cell (``NO_CELL``).
            InputError: shapes other than the cell's, or a number of patches other than the grid's (``MATRICES``); or omega for
                a cell whose decoder does not read it (``OMEGA``).
        """
        group, index = self.place(name)
        spec = self.groups[group].spec
        N = grid[0] * grid[1]
        fits = M.ndim == 4 and M.shape[1:] == (N, spec.V, spec.D) and (omega is None or omega.shape == (*M.shape[:2], spec.D))
        if not fits:
            raise InputError(
                "shapes that the cell cannot decode",
                code="MATRICES",
                expected=f"M (B, {N}, {spec.V}, {spec.D}) and omega (B, {N}, {spec.D})",
                found=(tuple(M.shape), None if omega is None else tuple(omega.shape)),
                where=name,
            )
        dtype = self.groups[group].stack.dtype
        own = None if omega is None else omega.to(dtype)
        try:
            return self.groups[group].decode(index, M.to(dtype), grid, own).to(M.dtype)
        except InputError as error:
            error.where = name
            raise

    def spec(self, name: str) -> CellSpec:
        """Return the spec of a cell."""
        return self.groups[self.place(name)[0]].spec

    def explain(self, size: tuple[int, int] = (64, 64)) -> Explanation:
        """Count groups, parameters, bytes, and the work for one image of a height and width.

        Raises:
            InputError: not a size (``SIZE``), or a size that a cell's patch size does not divide.
        """
        if not (isinstance(size, tuple | list) and len(size) == 2 and all(isinstance(side, int) for side in size)):
            remedy = "Pass height and width: container.explain((64, 64))."
            raise InputError("invalid image size", code="SIZE", expected="two integers", found=repr(size)[:40], remedy=remedy)
        size = size[0], size[1]
        rows = []
        for group, names in self.members():
            spec, count = group.spec, len(names)
            work = count * encode_flops(spec, size), count * flops(spec, size)
            parameters = count * spec.parameters
            held = parameters * group.stack.dtype.itemsize
            rows.append(GroupCost(spec, names, math.prod(spec.grid(*size)), parameters, held, *work))
        return Explanation(size, tuple(rows))

    def members(self) -> Iterator[tuple[Group, tuple[str, ...]]]:
        """Yield each group with cells of this container, and their names."""
        for index, group in enumerate(self.groups):
            names = tuple(name for name in self.names if self._places[name][0] == index)
            if names:
                yield group, names

    def place(self, name: object) -> tuple[int, int]:
        """Return the indices of a cell's group, and of the cell in it.

        Raises:
            NotFoundError: unknown cell (``NO_CELL``).
        """
        if not isinstance(name, str) or name not in self._places:
            raise UnknownKeyError("no such cell in this container", code="NO_CELL", expected=" | ".join(self.names), found=name)
        return self._places[name]

    @property
    def digest(self) -> str:
        """Digest of all weights, computed from memory at every call."""
        return canonical_json.sha256("\n".join(f"{name} {self._tensor_digest(name)}" for name in self.names).encode())

    def verify(self) -> None:
        """Compare the weights in memory with the cells' digests.

        Raises:
            IntegrityError: weights changed by a write that bypassed torch (``CONTAINER_CHANGED``).
        """
        changed = [name for name in self.names if self._tensor_digest(name) != self.lock[name]["tensors"]]
        if changed:
            raise IntegrityError(
                "frozen weights changed",
                code="CONTAINER_CHANGED",
                found=", ".join(changed),
                remedy="Compose the container again from its cells.",
            )

    def get_extra_state(self) -> Tensor:
        """Encode the lock, which a host's state dict holds in place of weights, as a tensor."""
        return extra_state.encoded({"lock": self.lock}, self.device)

    def set_extra_state(self, state: Tensor | dict[str, Any]) -> None:
        """Check a saved lock against this container's.

        Raises:
            FormatError: a state that cannot be decoded (``STATE``).
            IntegrityError: a lock of other cells (``LOCK_MISMATCH``).
        """
        if extra_state.is_absent(state):
            return
        saved = extra_state.decoded(state, where="a container's state").get("lock")
        check_lock(self.lock, saved)

    def _aligned(self, members: Sequence[str], omega: Tensor) -> Tensor:
        """Map omega (C, B, N, D) of cells into the consensus frame."""
        if self.consensus is None:
            return omega
        return self.consensus.mapped([self.names.index(name) for name in members], grids.pad(omega, self.consensus.width))

    def fitting(self, images: Tensor) -> Tensor:
        """Check images against all cells, and convert them to the container's dtype and device.

        Raises:
            InputError: images that a cell does not accept.
            FrozenError: substituted weights, see :meth:`composer.container.frozen_weights.Stack.refuse_others`.
        """
        for group, _ in self.members():
            grid_of(images, group.spec)
            group.stack.refuse_others()
        stack = self.groups[0].stack
        return taken(images, stack.dtype, stack.device)

    def _tensor_digest(self, name: str) -> str:
        group, index = self.place(name)
        return self.groups[group].stack.digest(index)


def _variance(images: Tensor) -> Tensor:
    """Return the variance (B,) of each image's values, without torch's warning for an empty batch."""
    centred = images - images.mean(dim=(1, 2, 3), keepdim=True)
    return centred.square().mean(dim=(1, 2, 3))
