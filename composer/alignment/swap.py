"""The swap score: what one cell's tokens are worth in the place of another's, by the images that come out.

B decodes an image with its own U and V of that image, and with an omega w: its own, A's mapped into B's coordinates, the mean
of its own, or A's mapped from another image. Of the error that the mean in the place of B's own costs, the mapped one recovers
a share: 1 as good as its own, 0 no better than none. Where the mean costs next to nothing, omega carries next to nothing,
and a share of that says little. In the second form rows of M take the place of omega, paired by their number.
Maps and means are of one half of the images, errors of the other, and the other way round.
Legend: B images, N patches of the target, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

import torch
from torch import Generator, Tensor

from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from composer.alignment import relay
from composer.alignment.probe_images import ProbeImages, images_on
from composer.alignment.relay import RelayKind
from composer.container.container import Container
from composer.procrustes import similarity

HARDLY = 0.02  # of the error with own tokens: what the mean has to cost for a share of it to say anything
FEWEST_CLUSTERS = 4  # two in each half
DRAWS = 2000  # of the bootstrap
DECODINGS = ("own", "mapped", "mean", "shuffled")


@dataclass(frozen=True, eq=False)
class Swap:
    """One cell's tokens in the place of another's.

    Attributes:
        source: A, whose tokens they are.
        target: B, which decodes.
        kind: ``omega`` or ``rows``.
        errors: Mean squared error (B,) of every image with ``own``, ``mapped``, ``mean`` and ``shuffled`` tokens.
        cluster: (B,) which images belong together.

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

    @property
    def worth(self) -> float:
        """The error with the mean over the error with own tokens: what the target's own tokens are worth to it."""
        return self.error("mean") / self.error("own")

    @property
    def carries(self) -> bool:
        """Whether the mean costs 2% of the error or more; else the target's tokens carry almost nothing."""
        return self.worth >= 1 + HARDLY

    def error(self, decoding: str) -> float:
        """Mean over images of one of the errors."""
        return float(self.errors[decoding].mean())

    def share(self, decoding: str = "mapped") -> float:
        """What a decoding recovers of the cost of the mean, (mean - it) / (mean - own); NaN where the mean costs nothing."""
        own, mean = self.error("own"), self.error("mean")
        return (mean - self.error(decoding)) / (mean - own) if mean > own else math.nan

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """95% bounds of the mapped share, by a bootstrap over clusters; infinite where the cost of the mean may be nothing."""
        of = torch.unique(self.cluster, return_inverse=True)[1]
        count = int(of.max()) + 1
        parts = [self.errors[name] for name in ("own", "mean", "mapped")]
        sums = torch.stack([torch.zeros(count, dtype=torch.float64).index_add_(0, of, part) for part in parts])
        drawn = torch.randint(count, (DRAWS, count), generator=Generator().manual_seed(0))
        own, mean, mapped = sums[:, drawn].sum(dim=2)
        if bool((mean <= own).any()):
            return -math.inf, math.inf
        low, high = ((mean - mapped) / (mean - own)).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        return low, high

    @property
    def statement(self) -> str:
        """The score in a sentence."""
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
    """Decode one cell's tokens, mapped, in another, and score the images.

    A finer source is averaged over the target's patches; a token of a coarser one stands in all of them. Tokens of unequal
    width are padded with zeros for the map, and cut to the target's after it.

    Args:
        container: Has both cells.
        source: A.
        target: B.
        images: (B, channels, height, width) in the cells' input scale; or a probe or its name.
        tokens: Which.
        clusters: (B,) integers, which images belong together, as crops of one photograph do: maps of every other cluster are
            judged on the rest. Left out, each image is by itself.
        seed: Of the order of shuffled images.

    Raises:
        NotFoundError: no such cell.
        InputError: no such tokens (``TOKENS``), fewer than four clusters (``FEW_IMAGES``) or not one per image
            (``CLUSTERS``), patches of which neither subdivides the other (``GRIDS``), rows that do not pair (``PAIRS``), or
            tokens that are constant.

    Warns:
        FewSamplesWarning: fewer patches than dimensions.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "low/johanna-64"))
    >>> found = composer.swap(model, "low/johanna-64", "low/fresnel-64", batteries.probe("photos-64").images[:8])
    >>> found.error("own") < found.error("mapped")
    True
    """
    if tokens not in get_args(RelayKind):
        raise InputError("no such tokens", code="TOKENS", expected=" | ".join(get_args(RelayKind)), found=tokens)
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
    """What is put in the place of a target's tokens (B, N, ..., D), on the images that are not learned from."""
    fitted = similarity.fit(given[learned].flatten(0, -2), own[learned].flatten(0, -2), unequal="pad")
    mapped = fitted(given[~learned])[..., : own.shape[-1]]
    mean = own[learned].mean(dim=(0, 1)).expand_as(mapped)
    order = torch.randperm(len(mapped), generator=Generator().manual_seed(seed))
    return {"own": own[~learned], "mapped": mapped, "mean": mean, "shuffled": mapped[order]}


def _checked(clusters: Tensor | None, images: int) -> Tensor:
    """(B,) what counts as one image, where there are enough of them for halves."""
    cluster = torch.arange(images) if clusters is None else clusters
    if cluster.shape != (images,) or cluster.dtype.is_floating_point:
        found = f"{tuple(cluster.shape)} {cluster.dtype}"
        raise InputError("clusters that are not of the images", code="CLUSTERS", expected=f"({images},) integers", found=found)
    if len(cluster.unique()) < FEWEST_CLUSTERS:
        raise InputError(
            "too few images to score a swap",
            code="FEW_IMAGES",
            expected=f"at least {FEWEST_CLUSTERS}, or clusters of them",
            found=len(cluster.unique()),
            remedy="Use a probe of more images; crops of one photograph are not independent.",
        )
    return cluster
