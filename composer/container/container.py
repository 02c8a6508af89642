"""Many frozen cells as one module: images in, every cell's tokens, reconstructions and errors out.

Gradients flow through the cells to whatever made the images, and never into the cells. Legend: C cells, B images, N patches
of an image, V rows, D width.
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
from batteries.errors import InputError, IntegrityError, NotFoundError
from batteries.images.image_batch import judge_scale
from batteries.io import canonical_json
from batteries.model.inputs import taken
from batteries.model.patch_svae import Tokens, grid_of
from composer import grids
from composer.container import extra_state
from composer.container.cell_digests import CellDigests, check_lock
from composer.container.cost import Explanation, GroupCost, encode_flops, flops
from composer.container.outputs import USUAL, ContainerOutput, GroupOutput, checked_taps
from composer.container.spec_group import CHUNK_BYTES, Group
from composer.procrustes.consensus import Consensus
from composer.vocabulary import Grid


class Container(nn.Module):
    """Frozen cells behind one interface; made by :func:`composer.compose`.

    It has no parameters, and its state dict carries the cells' digests instead of their weights: loading one into a
    container of other cells is refused.

    Args:
        groups: The cells by spec.
        places: Group and place in it, by name, in the order of the cells.
        lock: The cells' digests.
        scale: The input scale they share.

    Attributes:
        names: Of the cells, in order.
        lock: Version and digests by name.
        scale: As given.
        chunk_bytes: Bound on the intermediate values that are in memory at a time.

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

    @property
    def consensus(self) -> Consensus | None:
        """The maps of omega into the consensus frame; None where nothing was aligned.

        Raises:
            PolicyError, IntegrityError: set to maps of other tokens, cells or weights, see :meth:`Consensus.check`.
        """
        return self._consensus

    @consensus.setter
    def consensus(self, found: Consensus | None) -> None:
        if found is not None:
            found.check(self.ends)
        self._consensus = found

    @property
    def ends(self) -> dict[str, str]:
        """By name, the digest of each cell's weights: what a map knows it by."""
        return {name: row["tensors"] for name, row in self.lock.items()}

    @property
    def container(self) -> Container:
        """Itself, as :attr:`composer.Wired.container` are the cells of a composition: of either, what a host mounts."""
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU where there are none."""
        return next((group.stack.device for group in self.groups), torch.device("cpu"))

    @property
    def groups(self) -> tuple[Group, ...]:
        """The cells by spec."""
        return tuple(group for group in self._groups if isinstance(group, Group))

    def forward(
        self, images: Tensor, taps: str | Collection[str] = USUAL, names: str | Sequence[str] | None = None
    ) -> ContainerOutput:
        """What every cell makes of images (B, channels, height, width).

        The images are in the cells' input scale: photographs as x / 127.5 - 1, noise as generated.

        Args:
            images: The same for every cell; taken to the container's dtype, and what is made of them back to their own.
            taps: Some of M, S, omega, recon. Without ``recon`` nothing is decoded, which is most of the work.
            names: Of the cells to run, or one name; left out, all.

        Raises:
            InputError: other channels, or sides that a cell's patch does not divide.
            NotFoundError: no such cell (``NO_CELL``).
            PolicyError: no such tap (``NO_TAP``).

        Warns:
            ScaleWarning: values that look as if they were on another scale, once; see :mod:`batteries.images.image_batch`.
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
        """As :meth:`forward`, without decoding: M, S and omega by cell name."""
        out = self(images, ("M", "S", "omega"))
        return {name: Tokens(cell.M, cell.S, cell.omega, cell.grid) for name, cell in out.items()}

    def cells(self, *patterns: str | Iterable[str]) -> Container:
        """Part of this container, over the same memory.

        Args:
            patterns: Names, or patterns such as ``low/*``; one by one, or a list of them.

        Raises:
            NotFoundError: a pattern that no cell fits (``NO_CELL``).
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
        """Cells of these names, or of this name, in this order, over the same memory.

        Raises:
            NotFoundError: a name that no cell has (``NO_CELL``).
        """
        names = each([chosen], (str,))
        part = Container(self.groups, {name: self.place(name) for name in names}, self.lock, self.scale)
        part.chunk_bytes = self.chunk_bytes
        if self.consensus is not None:
            part.consensus = self.consensus.of([self.names.index(name) for name in part.names])
        return part

    def decode(self, name: str, M: Tensor, grid: Grid, omega: Tensor | None = None) -> Tensor:
        """What one cell makes of matrices, with omega of one's own in the place of the cell's: U diag(omega) V' of M, decoded.

        Args:
            name: The cell.
            M: (B, N, V, D).
            grid: Rows and columns of patches.
            omega: (B, N, D); left out, the cell's own of M.

        Returns:
            (B, channels, height, width).

        Raises:
            NotFoundError: no such cell (``NO_CELL``).
            InputError: shapes that are not the cell's, or another number of patches than the grid has (``MATRICES``).
        """
        group, index = self.place(name)
        spec = self.groups[group].spec
        N = grid[0] * grid[1]
        fits = M.ndim == 4 and M.shape[1:] == (N, spec.V, spec.D) and (omega is None or omega.shape == (*M.shape[:2], spec.D))
        if not fits:
            raise InputError(
                "not what this cell decodes",
                code="MATRICES",
                expected=f"M (B, {N}, {spec.V}, {spec.D}) and omega (B, {N}, {spec.D})",
                found=(tuple(M.shape), None if omega is None else tuple(omega.shape)),
                where=name,
            )
        dtype = self.groups[group].stack.dtype
        own = None if omega is None else omega.to(dtype)
        return self.groups[group].decode(index, M.to(dtype), grid, own).to(M.dtype)

    def spec(self, name: str) -> CellSpec:
        """Architecture of one cell."""
        return self.groups[self.place(name)[0]].spec

    def explain(self, size: tuple[int, int] = (64, 64)) -> Explanation:
        """Groups, parameters, bytes, and the work of one image of that height and width.

        Raises:
            InputError: no size (``SIZE``), or one that a cell's patch does not divide.
        """
        if not (isinstance(size, tuple | list) and len(size) == 2 and all(isinstance(side, int) for side in size)):
            remedy = "container.explain((64, 64))."
            raise InputError("not an image's size", code="SIZE", expected="two integers", found=repr(size)[:40], remedy=remedy)
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
        """Groups that cells of this container are in, and which."""
        for index, group in enumerate(self.groups):
            names = tuple(name for name in self.names if self._places[name][0] == index)
            if names:
                yield group, names

    def place(self, name: object) -> tuple[int, int]:
        """Group that a cell is in, and its place there.

        Raises:
            NotFoundError: no such cell (``NO_CELL``).
        """
        if not isinstance(name, str) or name not in self._places:
            raise NotFoundError("no such cell in this container", code="NO_CELL", expected=" | ".join(self.names), found=name)
        return self._places[name]

    @property
    def digest(self) -> str:
        """One digest over all weights, computed from memory as it is now."""
        return canonical_json.sha256("\n".join(f"{name} {self._tensor_digest(name)}" for name in self.names).encode())

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

    def get_extra_state(self) -> Tensor:
        """Lock: digests by cell name, which a host's state dict carries in place of weights, as a tensor."""
        return extra_state.encoded({"lock": self.lock}, self.device)

    def set_extra_state(self, state: Tensor | dict[str, Any]) -> None:
        """Check a saved lock against this container's.

        Raises:
            FormatError: no lock that can be read (``STATE``).
            IntegrityError: other cells (``LOCK_MISMATCH``).
        """
        if extra_state.is_absent(state):
            return
        saved = extra_state.decoded(state, where="a container's state").get("lock")
        check_lock(self.lock, saved)

    def _aligned(self, members: Sequence[str], omega: Tensor) -> Tensor:
        """Omega (C, B, N, D) of some cells, each mapped into the consensus frame."""
        if self.consensus is None:
            return omega
        return self.consensus.mapped([self.names.index(name) for name in members], grids.pad(omega, self.consensus.width))

    def fitting(self, images: Tensor) -> Tensor:
        """Images in the container's dtype.

        Raises:
            InputError: images that one of the cells does not take.
            FrozenError: other weights for this call, see :meth:`composer.container.frozen_weights.Stack.refuse_others`.
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
    """(B,) of the values of each image; torch's own warns of a batch without images."""
    centred = images - images.mean(dim=(1, 2, 3), keepdim=True)
    return centred.square().mean(dim=(1, 2, 3))
