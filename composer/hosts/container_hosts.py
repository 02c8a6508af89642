"""Networks around a container: a stem before it, so that gradients pass through the cells, and an MLP after it.

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
    """Network around all cells of a model: their container is a submodule without parameters, its lock in the state dict."""

    def __init__(self, model: Model, sample: Tensor, reads: Reads) -> None:
        features.checked(reads)
        container = cells_of(model)
        _refuse_few(container, sample)
        super().__init__(sample.shape[1])
        self.container = container
        self.reads: Reads = reads
        groups = container.explain((sample.shape[2], sample.shape[3])).groups
        self._order = [name for group in groups for name in group.names]  # in the order of their features
        self.scale_by(sample)

    def fed(self, images: Tensor) -> Tensor:
        """Return the cells' input: the images plus a learned residual.

        Raises:
            InputError: images that a cell does not accept.
        """
        self.container.fitting(images)
        return super().fed(images.to(self.stem.weight.dtype))

    def get_extra_state(self) -> Tensor:
        """Encode the kind of features and the ordered names of the cells as a tensor."""
        return extra_state.encoded(self._identity(), self.container.device)

    def set_extra_state(self, state: Tensor | dict[str, Any]) -> None:
        """Check that a saved state is of a host with the same features and cells.

        Raises:
            FormatError: a state that cannot be decoded (``STATE``).
            IntegrityError: other features, other cells or another order of cells (``OTHER_HOST``).
        """
        if extra_state.is_absent(state):
            return
        mine, saved = self._identity(), extra_state.decoded(state, where="a host's state")
        if saved != mine:
            remedy = "Create the host with the same `reads`, around the same cells in the same order."
            raise IntegrityError("state of another host", code="OTHER_HOST", expected=mine, found=saved, remedy=remedy)

    def _identity(self) -> dict[str, Any]:
        return {"reads": self.reads, "cells": self._order}


class Classifier(_Whole):
    """Classifier of images by the outputs of all cells of a container.

    Args:
        container: Cells, such as ``container.cells("low/*")``, kept as a submodule without parameters. Nodes of a composition
            are ignored.
        sample: Images (B, channels, height, width), two or more, that fix the scale of the features.
        classes: Number of classes, two or more.
        reads: Kind of features (:mod:`composer.hosts.features`).
        form: Form of the MLP.

    Raises:
        InputError: unknown features (``READS``), not a model (``MODEL``), no cells (``NO_CELLS``), images that the cells do not
            accept, fewer than two images (``FEW_IMAGES``), or fewer than two classes (``CLASSES``).

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
            raise InputError("too few classes", code="CLASSES", expected="2 or more", found=classes)
        self.mlp = ResidualMLP(len(self.shift), classes, form).to(sample.device)

    def features(self, images: Tensor) -> Tensor:
        """Compute the features of every image, (B, F)."""
        fed = self.fed(images)
        with unjudged():
            out = self.container(fed, features.TAPPED[self.reads])
        return features.of_image(self.reads, out, fed).to(fed)

    def forward(self, images: Tensor) -> Tensor:
        """Compute class scores (B, classes)."""
        scores: Tensor = self.mlp(self.standard(self.features(images)))
        return scores


class Denoiser(_Whole):
    """Restorer of images, region by region: a mixture of the cells' reconstructions plus a correction.

    Before training it returns the mean of the reconstructions. Regions are those of the coarsest grid of the cells.

    Args:
        container: Cells whose grids divide one another, see :class:`Classifier`.
        sample: Images (B, channels, height, width), two or more, that fix the scale of the features.
        reads: Kind of features that determine shares and correction (:mod:`composer.hosts.features`).
        form: Form of the MLP.

    Raises:
        InputError: grids that do not nest (``GRIDS``), or as in :class:`Classifier`.

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
        """Compute the features of every region, (B, G, F)."""
        return self._read(*self._seen(images))

    def forward(self, images: Tensor) -> Tensor:
        """Restore images (B, channels, height, width)."""
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
    """Average all reconstructions by shares (B, G, K): regions (B, G, P) in the dtype of the shares."""
    parts = []
    for group, own in zip(out.groups, shares.split([len(group.names) for group in out.groups], dim=2), strict=True):
        recon = rearrange(group.tensor("recon"), "C B c (gh p) (gw q) -> C B (gh gw) (c p q)", gh=grid[0], gw=grid[1])
        parts.append(torch.einsum("BGC,CBGP->BGP", own, recon.to(own)))
    return torch.stack(parts).sum(dim=0)


def _refuse_few(container: Container, sample: Tensor) -> None:
    container.fitting(sample)
    if len(sample) < 2:
        raise InputError("too few images for a feature scale", code="FEW_IMAGES", expected="at least 2", found=len(sample))
