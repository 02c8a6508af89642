"""Swap score: how well one cell's tokens replace another's, judged by the decoded images.

B decodes an image with its own U and V of that image, and with one of four omegas: its own, A's mapped into B's coordinates,
the mean of its own, or A's mapped from another image. The score is the share of the error caused by the mean that the mapped
omega recovers: 1 is as good as B's own, 0 no better than the mean. If the mean costs almost nothing, omega carries almost
nothing, and the share says little. With ``tokens="rows"``, rows of M replace omega, paired by index.
Maps and means are fitted on one half of the images and errors measured on the other, then the halves are exchanged.
Bounds are of the share that these maps recover on other images, since maps refitted without some images would need decodings of
their own. They follow from the share without each cluster (the jackknife), with Student's t of one half's degrees of freedom:
the two halves are not independent, because what an image fits in one is judged in the other.
Legend: B images, N patches of the target, D width, C clusters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

import torch
from torch import Generator, Tensor

from batteries import short_repr
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from batteries.geometry.estimates import student
from composer.alignment import relay
from composer.alignment.probe_images import ProbeImages, images_on
from composer.alignment.relay import RelayKind
from composer.container.container import Container
from composer.procrustes import similarity
from composer.procrustes.intervals import jackknife_variance, without

HARDLY = 0.02  # least cost of the mean, relative to the error with own tokens, at which a share is informative
FEWEST_CLUSTERS = 4  # two in each half
CONFIDENCE = 0.95
DECODINGS = ("own", "mapped", "mean", "shuffled")


@dataclass(frozen=True, eq=False)
class Swap:
    """Errors of one cell's decodings with another cell's tokens in place of its own.

    Attributes:
        source: Name of cell A, whose tokens are mapped.
        target: Name of cell B, which decodes.
        kind: ``omega`` or ``rows``.
        errors: Mean squared error (B,) of every image with ``own``, ``mapped``, ``mean`` and ``shuffled`` tokens.
        cluster: Cluster labels (B,) of the images.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "low/johanna-64"))
    >>> found = composer.swap(model, "low/johanna-64", "low/fresnel-64", batteries.probe("photos-64").images[:8])
    >>> [*found.errors], found.errors["mapped"].shape
    (['own', 'mapped', 'mean', 'shuffled'], torch.Size([8]))
    """

    source: str
    target: str
    kind: RelayKind
    errors: Mapping[str, Tensor]
    cluster: Tensor

    def __repr__(self) -> str:
        return short_repr.headed(self, f"{self.source} -> {self.target}", self.kind, f"{len(self.cluster)} images")

    @property
    def worth(self) -> float:
        """Ratio of the error with the mean to the error with the target's own tokens."""
        return self.error("mean") / self.error("own")

    @property
    def carries(self) -> bool:
        """True if the mean raises the error by 2% or more; otherwise the target's tokens carry almost nothing."""
        return self.worth >= 1 + HARDLY

    def error(self, decoding: str) -> float:
        """Return the mean error of a decoding over all images."""
        return float(self.errors[decoding].mean())

    def share(self, decoding: str = "mapped") -> float:
        """Return the share of the mean's cost that a decoding recovers, (mean - decoding) / (mean - own); NaN without cost."""
        own, mean = self.error("own"), self.error("mean")
        return (mean - self.error(decoding)) / (mean - own) if mean > own else math.nan

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """95% bounds of the share that these maps recover on other images; infinite if the mean may cost nothing.

        In simulations they hold it in 0.90 to 0.99 of sets of 8 images or more (docs/results/coverage-alignment.md).
        """
        of, count = torch.unique(self.cluster, return_inverse=True)[1], len(self.cluster.unique())
        own, mean, mapped = without(torch.stack([self.errors[name] for name in ("own", "mean", "mapped")]), of, count)
        quantile = student(CONFIDENCE, count // 2 - 1)
        cost = (mean - own) * count / (count - 1)  # (C,), of all clusters on average
        if float(cost.mean()) <= quantile * math.sqrt(jackknife_variance(cost)):
            return -math.inf, math.inf
        half = quantile * math.sqrt(jackknife_variance((mean - mapped) / (mean - own)))
        return self.share() - half, self.share() + half

    @property
    def statement(self) -> str:
        """Score in one sentence."""
        cost = f"the mean of {self.target}'s {self.kind} in their own place costs {self.worth - 1:.2%} of its error"
        if not self.carries:
            return f"{cost}: they carry almost nothing, and a share of that says little"
        low, high = self.bounds
        return f"{cost}, of which those of {self.source}, mapped, recover {self.share():.3f} ({low:.3f} to {high:.3f})"


@neutral()
@torch.no_grad()
def swap(
    container: Container,
    source: str,
    target: str,
    images: ProbeImages,
    *,
    tokens: RelayKind = "omega",
    clusters: Tensor | None = None,
    seed: int = 0,
) -> Swap:
    """Decode one cell's mapped tokens in another cell, and score the images.

    Tokens of a finer source are averaged over the target's patches; those of a coarser one are repeated. Tokens of unequal
    width are padded with zeros for the map, and its result is cut to the target's width.

    Args:
        container: Container with both cells.
        source: Name of cell A, whose tokens are mapped.
        target: Name of cell B, which decodes.
        images: Images (B, channels, height, width) in the cells' input scale, or a probe or its name.
        tokens: Kind of tokens to swap, ``omega`` or ``rows``.
        clusters: Cluster labels (B,), integers: maps fitted on every second cluster are judged on the rest. Defaults to one
            cluster per image.
        seed: Seed of the order of shuffled images.

    Raises:
        NotFoundError: unknown cell.
        InputError: unknown kind of tokens (``TOKENS``), omega for a target that does not decode it (``OMEGA``), fewer than four
            clusters (``FEW_IMAGES``), not one label per image (``CLUSTERS``), grids of which neither subdivides the other
            (``GRIDS``), rows that do not pair (``PAIRS``), or tokens that are constant.

    Warns:
        FewSamplesWarning: fewer patches than dimensions.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "low/johanna-64"))
    >>> found = composer.swap(model, "low/johanna-64", "low/fresnel-64", batteries.probe("photos-64").images[:8])
    >>> found.error("own") < found.error("mapped")
    True
    """
    if tokens not in get_args(RelayKind):
        raise InputError("unknown kind of tokens", code="TOKENS", expected=" | ".join(get_args(RelayKind)), found=tokens)
    images = container.fitting(images_on(container.scale, images))
    cluster = _checked(clusters, len(images))
    out = container(images, ("M", "omega"), (source, target))
    M, grid = out[target].M, out[target].grid
    given, own = relay.paired(tokens, out[source], grid), relay.tokens_of(tokens, out[target])
    errors = {name: torch.empty(len(images), dtype=torch.float64) for name in DECODINGS}
    even = torch.unique(cluster, return_inverse=True)[1] % 2 == 0
    for learned in (even, ~even):
        judged = ~learned
        for name, put in _placed(given, own, learned, seed).items():
            recon = relay.decoded(tokens, put, M[judged], grid, container, target)
            errors[name][judged] = (recon - images[judged]).square().mean(dim=(1, 2, 3)).double()
    return Swap(source, target, tokens, errors, cluster)


def _placed(given: Tensor, own: Tensor, learned: Tensor, seed: int) -> dict[str, Tensor]:
    """Return, by decoding, the tokens (B, N, ..., D) that replace the target's on the images not fitted on."""
    fitted = similarity.fit(given[learned].flatten(0, -2), own[learned].flatten(0, -2), unequal="pad")
    mapped = fitted(given[~learned])[..., : own.shape[-1]]
    mean = own[learned].mean(dim=(0, 1)).expand_as(mapped)
    order = torch.randperm(len(mapped), generator=Generator().manual_seed(seed))
    return {"own": own[~learned], "mapped": mapped, "mean": mean, "shuffled": mapped[order]}


def _checked(clusters: Tensor | None, images: int) -> Tensor:
    """Return cluster labels (B,), one per image by default; refuse too few clusters for two halves."""
    cluster = torch.arange(images) if clusters is None else clusters
    if cluster.shape != (images,) or cluster.dtype.is_floating_point:
        found = f"{tuple(cluster.shape)} {cluster.dtype}"
        raise InputError("invalid cluster labels", code="CLUSTERS", expected=f"({images},) integers", found=found)
    if len(cluster.unique()) < FEWEST_CLUSTERS:
        raise InputError(
            "too few images to score a swap",
            code="FEW_IMAGES",
            expected=f"at least {FEWEST_CLUSTERS}, or clusters of them",
            found=len(cluster.unique()),
            remedy="Use a probe with more images; crops of one photograph are not independent.",
        )
    return cluster
