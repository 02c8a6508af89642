"""Residual variance of a cell's map, axis by axis of the frame.

R2 is one number for all axes. Here its complement is resolved along the principal axes of the predicted tokens, the consensus
of the other cells, largest variance first: the share of each axis' variance that remains unexplained on held-out images.
Maps, halves and frames are those of the scores of a :class:`~composer.procrustes.consensus.Consensus`, so that the residual of
each axis, times its share of variance, adds up to 1 - R2.
Legend: B images, G regions, D widths, K axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from batteries import short_repr
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from composer.alignment.align import paired
from composer.container.container import Container
from composer.procrustes.consensus import frames_of_others
from composer.procrustes.held_out import Paired, Split, maps_of, rows_of
from composer.procrustes.scores import split_of
from composer.vocabulary import GridChoice, TokenKind


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Residual of a cell's map into the consensus of the other cells, by axis.

    Attributes:
        variance: Share (K,) of the consensus' variance on each axis, in descending order, without axes of zero variance.
        left: Share (K,) of each axis' variance left unexplained on held-out images; above 1 where the mean predicts better.
        beyond: Variance mapped outside the consensus, as a share of its total variance: 0 for a cell that is no wider.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "low/johanna-64"))
    >>> spectrum = composer.spectra(model, batteries.probe("photos-64").images[:8])["low/fresnel-64"]
    >>> round(float(spectrum.variance.sum()), 6), round(spectrum.beyond, 6)
    (1.0, 0.0)
    """

    variance: Tensor
    left: Tensor
    beyond: float

    __repr__ = short_repr.fields

    @property
    def r2(self) -> float:
        """R2 of the cell's score against the others."""
        return 1 - float((self.variance * self.left).sum()) - self.beyond


@neutral()
@torch.no_grad()
def spectra(
    container: Container,
    images: Tensor,
    *,
    tokens: TokenKind = "omega",
    grid: GridChoice = "coarsest",
    clusters: Tensor | None = None,
    seed: int = 0,
) -> dict[str, Spectrum]:
    """Measure the residual spectrum of every cell, by name, against the consensus of the others.

    Args:
        container: Two cells or more.
        images: Images (B, channels, height, width).
        tokens: Kind of tokens, see :mod:`composer.alignment.tokens`.
        grid: Grid on which tokens are paired, see :func:`composer.align`.
        clusters: Cluster labels (B,), see :func:`composer.align`.
        seed: Seed of the halves.

    Raises:
        InputError: a single cell (``ONE_CELL``), or the errors of :func:`composer.align`.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "low/johanna-64"))
    >>> spectra = composer.spectra(model, batteries.probe("photos-64").images[:8])
    >>> spectra["low/fresnel-64"].left.shape
    torch.Size([16])
    """
    if len(container.names) < 2:
        remedy = "Add another cell: the frame of one cell is the cell itself."
        raise InputError("too few cells", code="ONE_CELL", expected="2 or more", found=1, remedy=remedy)
    found, _ = paired(container, images, tokens, grid)
    values = [own.cpu() for own in found.values()]
    return dict(zip(found, spectra_of(values, clusters=clusters, seed=seed), strict=True))


def spectra_of(tokens: Sequence[Tensor], *, clusters: Tensor | None = None, seed: int = 0) -> list[Spectrum]:
    """Measure the residual spectrum of every cell from its tokens (B, G, its own D), see :func:`spectra`."""
    split = split_of(tokens[0], clusters, Generator().manual_seed(seed))
    pairs = zip(tokens, frames_of_others(tokens), strict=True)
    return [_spectrum(Paired(_rows(own, split), _rows(frame, split), split)) for own, frame in pairs]


def _rows(tokens: Tensor, split: Split) -> Tensor:
    """Return tokens in the order of the split, along their own axes of rising variance."""
    return rows_of(tokens.double()[split.images], torch.ones(tokens.shape[:2], dtype=torch.bool))


def _spectrum(pair: Paired) -> Spectrum:
    maps = maps_of(pair.sums(pair.observed))
    left, truth, beyond = torch.tensor(0.0), torch.tensor(0.0), 0.0
    for half, images in enumerate(pair.split.halves):
        fitted = 0, 1 - half
        x = (pair.source[images, :, :-2] - maps.centre[fitted]) * maps.scale[fitted]
        y = pair.target[images, :, :-2] - maps.mean[fitted]
        arrived = x @ maps.rotation[fitted]  # (B, G, K)
        left = left + (arrived - y).square().sum(dim=(0, 1))
        truth = truth + y.square().sum(dim=(0, 1))
        beyond += float(x.square().sum() - arrived.square().sum())  # along axes that the target lacks or leaves undetermined
    total = float(truth.sum())
    return Spectrum((truth / total).flip(0), (left / truth).flip(0), max(0.0, beyond / total))
