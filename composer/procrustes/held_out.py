"""Held-out R2 of many pairings of the same images, from sums that are computed once.

A map fitted on one half of the images predicts the other half, and vice versa. Images that are not independent, such as crops
of one photograph, form a cluster, which stays in one half and is paired as a whole. A pairing assigns a cluster of the source
to each cluster of the target. Its maps and their errors depend only on sums over rows: counts, tokens, squares, and products
of both ends. With u = (x, |x|^2, 1) and v = (y, |y|^2, 1), zero in missing rows, these are the entries of sum u'v, which is a
sum over the pairs of clusters. So the rows are read once for all pairings.
Where a fit leaves axes undetermined, as with fewer rows than dimensions, R2 is the mean over all rotations of these axes.
Legend: B images, C clusters, G regions of an image, D_s and D_t widths, W two more than a width, P pairings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from composer.procrustes.centering import SPREAD_FLOOR, centred
from composer.procrustes.polar import NEGLIGIBLE, TINY, turn

CHUNK = 2**20  # numbers of shuffled rows, or of their maps, at a time: 8 MiB, about the cache of a core
TABLE = 2**25  # numbers in the sums of all pairs of clusters: 256 MiB
WORKING = 16  # temporary matrices of the size of a map per pairing scored


@dataclass(frozen=True, eq=False)
class Split:
    """Images ordered by cluster, one half of the clusters before the other.

    Attributes:
        images: Indices (B,) of the given images, in this order.
        sizes: Number (C,) of images of each cluster.
    """

    images: Tensor
    sizes: Tensor

    @classmethod
    def drawn(cls, clusters: Tensor, generator: Generator) -> Split:
        """Draw random halves.

        Args:
            clusters: Cluster labels (B,), arbitrary integers.
            generator: Random generator.
        """
        members: dict[int, list[int]] = {}
        for image, cluster in enumerate(clusters.tolist()):
            members.setdefault(cluster, []).append(image)
        given = [*members.values()]
        mixed = [given[place] for place in torch.randperm(len(given), generator=generator).tolist()]
        return cls(torch.tensor([image for own in mixed for image in own]), torch.tensor([len(own) for own in mixed]))

    @property
    def cluster(self) -> Tensor:
        """Index (B,) of the cluster of each image."""
        return torch.arange(len(self.sizes)).repeat_interleave(self.sizes)

    @property
    def clusters(self) -> tuple[slice, slice]:
        """Clusters of each half."""
        border = (len(self.sizes) + 1) // 2
        return slice(0, border), slice(border, None)

    @property
    def halves(self) -> tuple[slice, slice]:
        """Images of each half."""
        border = int(self.sizes[self.clusters[0]].sum())
        return slice(0, border), slice(border, None)

    @property
    def pairings(self) -> int:
        """Number of possible pairings: clusters are exchanged only with clusters of the same size."""
        return math.prod(math.factorial(count) for count in self.sizes.unique(return_counts=True)[1].tolist())

    def shuffled(self, count: int, generator: Generator) -> Tensor:
        """Draw pairings (P, C) uniformly at random."""
        places, drawn = self.sizes.argsort(), torch.rand(count, len(self.sizes), generator=generator, dtype=torch.float64)
        orders = torch.empty(drawn.shape, dtype=torch.long)
        orders[:, places] = (self.sizes + drawn).argsort(dim=1)
        return orders

    def placed(self, orders: Tensor) -> Tensor:
        """Return the order (P, B) of the source's images for orders of its clusters (P, C)."""
        starts = self.sizes.cumsum(0) - self.sizes
        within = torch.arange(len(self.images)) - starts[self.cluster]
        return starts[orders[:, self.cluster]] + within


@dataclass(frozen=True, eq=False)
class Maps:
    """Map of each pairing and half: (tokens - centre (..., D_s)) * scale (...) @ rotation (..., D_s, D_t)."""

    centre: Tensor
    rotation: Tensor
    scale: Tensor
    mean: Tensor  # of the target (..., D_t)


@dataclass(frozen=True, eq=False)
class Paired:
    """Rows of two cells on one split.

    Attributes:
        source: Rows (B, G, W) of the source from :func:`rows_of`, in the split's order.
        target: Rows (B, G, W) of the target from :func:`rows_of`, in the split's order.
        split: Halves of the images.
        most: Largest number of pairings to be scored.
    """

    source: Tensor
    target: Tensor
    split: Split
    most: int = 1

    @property
    def observed(self) -> Tensor:
        """Pairing (1, C) as given."""
        return torch.arange(len(self.split.sizes))[None]

    def r2(self, orders: Tensor) -> Tensor:
        """Return R2 (P,) under pairings (P, C): the predicted share of the target's variance, 0 without common rows."""
        size = max(WORKING * self.source.shape[-1] * self.target.shape[-1], 0 if self.table else self.source.numel())
        return torch.cat([r2_of(self.sums(some)) for some in orders.split(max(1, CHUNK // size))])

    def sums(self, orders: Tensor) -> Tensor:
        """Return sum u'v over the rows of each half, (P, 2, W, W)."""
        if self.table:
            sums, row_of = self.table
            rows = row_of[orders, self.observed]
            halves = [F.embedding_bag(rows[:, half], sums, mode="sum") for half in self.split.clusters]
            return torch.stack(halves, dim=1).unflatten(-1, (self.source.shape[-1], self.target.shape[-1]))
        images = self.split.placed(orders)
        products = [
            self.source[images[:, half]].flatten(1, 2).mT @ self.target[half].flatten(0, 1) for half in self.split.halves
        ]
        return torch.stack(products, dim=1)

    def sums_by_group(self, group: Tensor, count: int) -> Tensor:
        """Return sum u'v over the rows of each half and group, as given, (K, 2, W, W).

        Args:
            group: Group (B,) of each image, in the split's order.
            count: Number K of groups.
        """
        sums = self.source.new_zeros(count, 2, self.source.shape[-1], self.target.shape[-1])
        for half, images in enumerate(self.split.halves):
            for some in group[images].unique().tolist():
                own = (group[images] == some).nonzero()[:, 0] + images.start
                sums[some, half] = self.source[own].flatten(0, 1).mT @ self.target[own].flatten(0, 1)
        return sums

    @cached_property
    def table(self) -> tuple[Tensor, Tensor] | None:
        """Sums (rows, W W) over each pair of clusters of equal size, and the row (C, C) of each pair.

        None if the table would be too large, or take longer to compute than the sums of all pairings.
        """
        sizes, widths = self.split.sizes, (self.source.shape[-1], self.target.shape[-1])
        classes, counts = sizes.unique(return_counts=True)
        pairs = int(counts.square().sum())
        if pairs > self.most * len(sizes) or pairs * math.prod(widths) > TABLE:
            return None
        sums = self.source.new_empty(pairs, math.prod(widths))
        row_of = torch.zeros(len(sizes), len(sizes), dtype=torch.long)
        starts, done = sizes.cumsum(0) - sizes, 0
        for size, count in zip(classes.tolist(), counts.tolist(), strict=True):
            alike = (sizes == size).nonzero()[:, 0]
            images = starts[alike, None] + torch.arange(size)
            u, v = (end[images].flatten(1, 2) for end in (self.source, self.target))  # (count, size G, W)
            own = sums[done : done + count**2].view(count, count, *widths)
            for some in torch.arange(count).split(max(1, CHUNK // own[0].numel())):
                own[some] = torch.einsum("inv,jnw->ijvw", u[some], v)
            row_of[alike[:, None], alike] = done + torch.arange(count**2).view(count, count)
            done += count**2
        return sums, row_of

    def judged(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return squared error, squared length and cosine (B, G) of held-out rows as given, zero in missing rows."""
        maps = maps_of(self.sums(self.observed))
        parts = []
        for half, images in enumerate(self.split.halves):
            fitted = 0, 1 - half
            x = (self.source[images, :, :-2] - maps.centre[fitted]) * maps.scale[fitted]
            y = self.target[images, :, :-2] - maps.mean[fitted]
            there = self.source[images, :, -1] * self.target[images, :, -1]
            along = (x @ maps.rotation[fitted] * y).sum(dim=-1)
            length, truth = (end.square().sum(dim=-1) for end in (x, y))  # a rotation keeps lengths, on undetermined axes too
            cosine = along / (length * truth).clamp_min(TINY).sqrt()
            parts.append(torch.stack([(length - 2 * along + truth).clamp_min(0), truth, cosine]) * there)
        error, truth, cosine = torch.cat(parts, dim=1)
        return error, truth, cosine


def rows_of(tokens: Tensor, kept: Tensor) -> Tensor:
    """Compute u (B, G, W) of tokens (B, G, D): centred, of mean square 1, along the axes on which they vary.

    Axes with less than 1e-12 of the variance, such as padding, contribute to no prediction and are dropped.

    Args:
        tokens: Tokens (B, G, D) of a cell.
        kept: Mask (B, G) of the rows present; missing rows become zeros.

    Raises:
        InputError: tokens that are not finite (``NOT_FINITE``) or constant (``CONSTANT``).
    """
    moved, _ = centred(tokens.flatten(0, 1), kept.flatten())
    moved = moved * (kept.sum() / moved.square().sum()).sqrt()
    variance, axes = torch.linalg.eigh(moved.mT @ moved)
    moved = moved @ axes[:, variance > SPREAD_FLOOR * variance.sum()]
    rows = torch.cat([moved, moved.square().sum(dim=1, keepdim=True), kept.flatten()[:, None]], dim=1)
    return rows.unflatten(0, kept.shape)


def maps_of(sums: Tensor) -> Maps:
    """Fit least-squares maps from sums (..., W, W), with scale 0 where the source has no spread."""
    count = sums[..., -1, -1].clamp_min(1)
    centre, mean = sums[..., :-2, -1] / count[..., None], sums[..., -1, :-2] / count[..., None]
    spread = sums[..., -2, -1] - count * centre.square().sum(dim=-1)
    rotation, trace = _turn(sums[..., :-2, :-2] - count[..., None, None] * centre[..., :, None] * mean[..., None, :])
    scale = torch.where(spread > SPREAD_FLOOR * count, trace / spread, 0.0)
    return Maps(centre, rotation, scale, mean)


def r2_of(sums: Tensor) -> Tensor:
    """Compute R2 (P,) of both halves from sums (P, 2, W, W): |s x R - y|^2 = s^2 |x|^2 - 2 s xRy' + |y|^2.

    Each half is judged by the map of the other.
    """
    maps, judged = maps_of(sums.flip(1)), sums
    count, x, y = judged[..., -1, -1], judged[..., :-2, -1], judged[..., -1, :-2]
    products = judged[..., :-2, :-2] - x[..., :, None] * maps.mean[..., None, :]
    products = products - maps.centre[..., :, None] * (y - count[..., None] * maps.mean)[..., None, :]
    along = maps.scale * (maps.rotation * products).sum(dim=(-2, -1))
    length = _about(judged[..., -2, -1], x, count, maps.centre)
    truth = _about(judged[..., -1, -2], y, count, maps.mean)
    left, total = (part.sum(dim=1) for part in (maps.scale.square() * length - 2 * along + truth, truth))
    return torch.where(total > SPREAD_FLOOR * count.sum(dim=1), 1 - left.clamp_min(0) / total, 0.0)


def _about(squares: Tensor, tokens: Tensor, count: Tensor, centre: Tensor) -> Tensor:
    """Compute the sum of squares about a centre from that about zero and the sum of the tokens."""
    return squares - 2 * (tokens * centre).sum(dim=-1) + count * centre.square().sum(dim=-1)


def _turn(cross: Tensor) -> tuple[Tensor, Tensor]:
    """Return the orthogonal map of padded tokens, restricted to the unpadded axes (..., D_s, D_t), and its trace (...).

    For a cross product Q T, with Q of orthonormal columns and T square, it is Q times the map of T.
    """
    if cross.shape[-2] == cross.shape[-1]:
        return _turn_square(cross)
    tall = cross.shape[-2] > cross.shape[-1]
    basis, square = torch.linalg.qr(cross if tall else cross.mT)
    small, trace = _turn_square(square)
    rotation = basis @ small
    return (rotation if tall else rotation.mT), trace


def _turn_square(cross: Tensor) -> tuple[Tensor, Tensor]:
    """Return the map and trace of a square cross product; zero, the mean of all rotations, along undetermined axes."""
    rotation, trace, _ = turn(cross, "allowed")
    stretch, floor = rotation.mT @ cross, NEGLIGIBLE * trace  # symmetric, its eigenvalues the singular values
    eye = torch.eye(cross.shape[-1], dtype=cross.dtype)
    undecided = torch.linalg.cholesky_ex(stretch - floor[..., None, None] * eye).info > 0  # an eigenvalue below the floor
    if bool(undecided.any()):
        values, axes = torch.linalg.eigh(stretch[undecided])
        decided = axes * (values > floor[undecided, None])[..., None, :]
        rotation[undecided] = rotation[undecided] @ decided @ decided.mT
    return rotation, trace
