"""Networks around a container: a stem before it, so that a gradient passes through it, and an MLP behind it.

Legend: C cells of a group, K cells of a container, B images, N patches, G regions of the coarsest grid, V rows, D width,
P = channels * side**2 of a patch or a region.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from batteries.errors import InputError, IntegrityError
from batteries.images.image_batch import unjudged  # what a stem feeds is the host's to choose
from composer import grids
from composer.container import extra_state
from composer.container.container import Container
from composer.container.outputs import ContainerOutput
from composer.hosts import features
from composer.hosts.cell_hosts import FORM, Model, cells_of
from composer.hosts.features import Reads
from composer.hosts.residual_mlp import ResidualMLP, Stemmed, StreamForm
from composer.vocabulary import Grid


class _Whole(Stemmed):
    """Around all cells of a model: their container is a submodule without parameters, with its lock in the state dict."""

    def __init__(self, model: Model, sample: Tensor, reads: Reads) -> None:
        features.checked(reads)
        container = cells_of(model)
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
        return extra_state.encoded(self._identity(), self.container.device)

    def set_extra_state(self, state: Tensor | dict[str, Any]) -> None:
        """Check a saved host's reading.

        Raises:
            FormatError: no reading that can be read (``STATE``).
            IntegrityError: another reading, or other cells or another order of them (``OTHER_HOST``).
        """
        if extra_state.is_absent(state):
            return
        mine, saved = self._identity(), extra_state.decoded(state, where="a host's state")
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
        reads: What of the cells (:mod:`composer.hosts.features`).
        form: Of the MLP.

    Raises:
        InputError: no such reading (``READS``), no model (``MODEL``) or no cells (``NO_CELLS``), images that the cells do not
            take, fewer than two of them (``FEW_IMAGES``), or fewer than two classes (``CLASSES``).

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "high/fresnel-64"))
    >>> images = batteries.probe("photos-64").images[:4]
    >>> host = composer.Classifier(model, images, classes=10)
    >>> host(images).shape
    torch.Size([4, 10])
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
            out = self.container(fed, features.TAPPED[self.reads])
        return features.of_image(self.reads, out, fed).to(fed)

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
        reads: What of the cells decides over shares and correction (:mod:`composer.hosts.features`).
        form: Of the MLP.

    Raises:
        InputError: as of :class:`Classifier`, or grids that do not nest (``GRIDS``).

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "high/fresnel-64"))
    >>> images = batteries.probe("photos-64").images[:4]
    >>> host = composer.Denoiser(model, images)
    >>> host(images).shape
    torch.Size([4, 3, 64, 64])
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
            return fed, self.container(fed, {*features.TAPPED[self.reads], "recon"})

    def _read(self, fed: Tensor, out: ContainerOutput) -> Tensor:
        return features.of_region(self.reads, out, fed, _grid(out)).to(fed)


def _grid(out: ContainerOutput) -> Grid:
    return grids.coarsest([group.grid for group in out.groups])


def _mixture(out: ContainerOutput, shares: Tensor, grid: Grid) -> Tensor:
    """Mean of all reconstructions by shares (B, G, K), as regions (B, G, P), in the dtype of the shares."""
    parts = []
    for group, own in zip(out.groups, shares.split([len(group.names) for group in out.groups], dim=2), strict=True):
        recon = rearrange(group.tensor("recon"), "C B c (gh p) (gw q) -> C B (gh gw) (c p q)", gh=grid[0], gw=grid[1])
        parts.append(torch.einsum("BGC,CBGP->BGP", own, recon.to(own)))
    return torch.stack(parts).sum(dim=0)


def _refuse_few(container: Container, sample: Tensor) -> None:
    container.fitting(sample)
    if len(sample) < 2:
        raise InputError("too few images to fix a scale", code="FEW_IMAGES", expected="at least 2", found=len(sample))
