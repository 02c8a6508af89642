"""Networks around a cell, or around a container: a stem before it, so that a gradient passes through it, and an MLP behind it.

Legend: C cells of a group, K cells of a container, B images, N patches, G regions of the coarsest grid, V rows, D width,
P = channels * side**2 of a patch or a region.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from einops import rearrange
from torch import Tensor, nn

from batteries.errors import InputError, IntegrityError
from batteries.model.patch_svae import Output, Tokens
from batteries.pictures.image_batch import unjudged  # what a stem feeds is the host's to choose
from composer import extrastate, readings, tokens
from composer.container import Container
from composer.outputs import TAPS, CellOutput, ContainerOutput
from composer.readings import Reads
from composer.streams import ResidualMLP as ResidualMLP
from composer.streams import Stemmed
from composer.streams import StreamForm as StreamForm
from composer.tokens import Grid

FORM = StreamForm()


class Mounted(Protocol):
    """A cell as a host sees it: a :class:`batteries.PatchSVAE`, or one cell of a container."""

    def tokens(self, images: Tensor) -> Tokens:
        """Images (B, channels, height, width) to M, S and omega."""
        ...

    def __call__(self, images: Tensor) -> Output | CellOutput:
        """The same with a reconstruction."""
        ...


class Model(Protocol):
    """A model as a host sees it: a container, or a composition, of which it takes the cells."""

    @property
    def container(self) -> Container:
        """The cells."""
        ...


class FrozenCell:
    """One cell of a model, mounted: its weights are out of every optimiser's reach.

    Args:
        container: Holds it; or a composition, whose nodes are left out.
        name: Which; the first where left out.

    Raises:
        InputError: no model (``MODEL``), or one without cells (``NO_CELLS``).
        NotFoundError: no such cell (``NO_CELL``).
    """

    def __init__(self, container: Model, name: str | None = None) -> None:
        cells = _cells_of(container)
        self.name = name or cells.names[0]
        self.container = cells.part([self.name])

    def tokens(self, images: Tensor) -> Tokens:
        """Images to M, S and omega."""
        return self.container.tokens(images)[self.name]

    def __call__(self, images: Tensor) -> CellOutput:
        """The same with a reconstruction."""
        return self.container(images, TAPS)[self.name]


class _Host(Stemmed):
    """Around one cell, which is no submodule."""

    def __init__(self, cell: Mounted, sample: Tensor) -> None:
        super().__init__(sample.shape[1])
        self._mounted = (cell,)  # in a tuple: a module would become a part of the host, and its weights the host's
        self.scale_by(sample)

    @property
    def cell(self) -> Mounted:
        """What is mounted."""
        return self._mounted[0]


class NamingHost(_Host):
    """Names what an image is from the mean and standard deviation over patches of the cell's omega.

    Args:
        cell: Mounted; not a submodule, so that its weights are the caller's business.
        sample: Images (B, channels, height, width) that fix the scale of the features.
        classes: To name.
        form: Of the MLP.
    """

    def __init__(self, cell: Mounted, sample: Tensor, classes: int, form: StreamForm) -> None:
        super().__init__(cell, sample)
        self.mlp = ResidualMLP(len(self.shift), classes, form).to(sample.device)

    def features(self, images: Tensor) -> Tensor:
        """(B, 2 D)."""
        omega = self.cell.tokens(self.fed(images)).omega
        return torch.cat([omega.mean(dim=1), omega.std(dim=1)], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (B, classes)."""
        scores: Tensor = self.mlp(self.standard(self.features(images)))
        return scores


class RestoringHost(_Host):
    """Restores an image: the cell's reconstruction, and a correction of every patch from the rows of its M.

    Args:
        cell: Mounted.
        sample: Images (B, channels, height, width) that fix the scale of the features.
        form: Of the MLP.
    """

    def __init__(self, cell: Mounted, sample: Tensor, form: StreamForm) -> None:
        super().__init__(cell, sample)
        with torch.no_grad(), unjudged():
            patches = self.cell(sample[:1]).M.shape[1]
        self.mlp = ResidualMLP(len(self.shift), sample[0].numel() // patches, form).to(sample.device)
        self.mlp.start_at_zero()

    def features(self, images: Tensor) -> Tensor:
        """(B, N, V D)."""
        with unjudged():
            return self.cell.tokens(self.fed(images)).M.flatten(2)

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) -> the same shape."""
        with unjudged():
            out = self.cell(self.fed(images))
        correction = self.mlp(self.standard(out.M.flatten(2)))  # (B, N, P)
        side = math.isqrt(correction.shape[2] // images.shape[1])
        rows = images.shape[2] // side
        correction = rearrange(correction, "B (gh gw) (C p q) -> B C (gh p) (gw q)", gh=rows, p=side, q=side, C=images.shape[1])
        restored: Tensor = out.recon + correction
        return restored


class _Whole(Stemmed):
    """Around all cells of a model: their container is a submodule without parameters, with its lock in the state dict."""

    def __init__(self, model: Model, sample: Tensor, reads: Reads) -> None:
        readings.checked(reads)
        container = _cells_of(model)
        _refuse_few(container, sample)
        super().__init__(sample.shape[1])
        self.container = container
        self.reads: Reads = reads
        groups = container.explain((sample.shape[2], sample.shape[3])).groups
        self._order = [name for group in groups for name in group.names]  # as their features stand
        self.scale_by(sample)

    def fed(self, images: Tensor) -> Tensor:
        """What the stem gives the cells: the images and a learned residual.

        Raises:
            InputError: images that one of the cells does not take.
        """
        self.container.fitting(images)
        return super().fed(images.to(self.stem.weight.dtype))

    def get_extra_state(self) -> Tensor:
        """What is read, and of which cells in which order, as a tensor."""
        return extrastate.encoded(self._identity(), self.container.device)

    def set_extra_state(self, state: Tensor | dict[str, Any]) -> None:
        """Check a saved host's reading.

        Raises:
            FormatError: no reading that can be read (``STATE``).
            IntegrityError: another reading, or other cells or another order of them (``OTHER_HOST``).
        """
        if extrastate.is_absent(state):
            return
        mine, saved = self._identity(), extrastate.decoded(state, where="a host's state")
        if saved != mine:
            remedy = "Make the host of the same reading, around the same cells in the same order."
            raise IntegrityError("a state of another host", code="OTHER_HOST", expected=mine, found=saved, remedy=remedy)

    def _identity(self) -> dict[str, Any]:
        return {"reads": self.reads, "cells": self._order}


class Classifier(_Whole):
    """Names what an image is from what all cells of a container make of it.

    Args:
        container: The cells, such as ``container.cells("low/*")``; of a composition its cells are read, and not its nodes. They
            are a submodule without parameters.
        sample: Images (B, channels, height, width), two or more, that fix the scale of the features.
        classes: To name, two or more.
        reads: What of the cells (:mod:`composer.readings`).
        form: Of the MLP.

    Raises:
        InputError: no such reading (``READS``), no model (``MODEL``) or no cells (``NO_CELLS``), images that the cells do not
            take, fewer than two of them (``FEW_IMAGES``), or fewer than two classes (``CLASSES``).
    """

    def __init__(self, container: Model, sample: Tensor, classes: int, reads: Reads = "omega", form: StreamForm = FORM) -> None:
        super().__init__(container, sample, reads)
        if classes < 2:
            raise InputError("too few classes to tell apart", code="CLASSES", expected="2 or more", found=classes)
        self.mlp = ResidualMLP(len(self.shift), classes, form).to(sample.device)

    def features(self, images: Tensor) -> Tensor:
        """(B, F)."""
        fed = self.fed(images)
        with unjudged():
            out = self.container(fed, readings.TAPPED[self.reads])
        return readings.of_image(self.reads, out, fed).to(fed)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (B, classes)."""
        scores: Tensor = self.mlp(self.standard(self.features(images)))
        return scores


class Denoiser(_Whole):
    """Restores an image, region by region: a mixture of the cells' reconstructions, and a correction.

    It starts as the plain mean of the reconstructions. The regions are those of the coarsest grid among the cells.

    Args:
        container: As of :class:`Classifier`; grids that divide one another.
        sample: Images (B, channels, height, width), two or more, that fix the scale of the features.
        reads: What of the cells decides over shares and correction (:mod:`composer.readings`).
        form: Of the MLP.

    Raises:
        InputError: as of :class:`Classifier`, or grids that do not nest (``GRIDS``).
    """

    def __init__(self, container: Model, sample: Tensor, reads: Reads = "signature", form: StreamForm = FORM) -> None:
        super().__init__(container, sample, reads)
        cells = self.container
        side = max(cells.spec(name).patch_size for name in cells.names)
        self.mlp = ResidualMLP(len(self.shift), len(cells.names) + sample.shape[1] * side**2, form).to(sample.device)
        self.mlp.start_at_zero()

    def features(self, images: Tensor) -> Tensor:
        """(B, G, F)."""
        return self._read(*self._seen(images))

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) -> the same shape."""
        fed, out = self._seen(images)
        found = self.mlp(self.standard(self._read(fed, out)))  # (B, G, K + P)
        shares, correction = found.tensor_split([len(self.container.names)], dim=2)
        regions = _mixture(out, shares.softmax(dim=2), _grid(out)) + correction
        gh, gw = _grid(out)
        side = images.shape[2] // gh
        return rearrange(regions, "B (gh gw) (c p q) -> B c (gh p) (gw q)", gh=gh, gw=gw, p=side, q=side)

    def _seen(self, images: Tensor) -> tuple[Tensor, ContainerOutput]:
        fed = self.fed(images)
        with unjudged():
            return fed, self.container(fed, {*readings.TAPPED[self.reads], "recon"})

    def _read(self, fed: Tensor, out: ContainerOutput) -> Tensor:
        return readings.of_region(self.reads, out, fed, _grid(out)).to(fed)


def _grid(out: ContainerOutput) -> Grid:
    return tokens.coarsest([group.grid for group in out.groups])


def _mixture(out: ContainerOutput, shares: Tensor, grid: Grid) -> Tensor:
    """The mean of all reconstructions by shares (B, G, K), as regions (B, G, P), in the dtype of the shares."""
    parts = []
    for group, own in zip(out.groups, shares.split([len(group.names) for group in out.groups], dim=2), strict=True):
        recon = rearrange(group.tensor("recon"), "C B c (gh p) (gw q) -> C B (gh gw) (c p q)", gh=grid[0], gw=grid[1])
        parts.append(torch.einsum("BGC,CBGP->BGP", own, recon.to(own)))
    return torch.stack(parts).sum(dim=0)


def _cells_of(model: Model) -> Container:
    """The cells of a model, at least one."""
    found = getattr(model, "container", None)
    if not isinstance(found, Container):
        remedy = "Give what composer.compose, wire or load returned."
        raise InputError("not a model", code="MODEL", found=type(model).__name__, remedy=remedy)
    if not found.names:
        raise InputError("a container without cells", code="NO_CELLS", expected="at least one cell", found="none")
    return found


def _refuse_few(container: Container, sample: Tensor) -> None:
    container.fitting(sample)
    if len(sample) < 2:
        raise InputError("too few images to fix a scale", code="FEW_IMAGES", expected="at least 2", found=len(sample))


HostFactory = Callable[[Mounted, Tensor, int], nn.Module]  # a mounted cell, a sample of images, classes (0: restore)
