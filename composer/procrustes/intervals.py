"""95% bounds of held-out R2, from how much it changes when some of the images are deleted (the jackknife).

On other images R2 would differ because other images are judged, and because other images fit the maps. The variance from the
judged images alone, with maps kept, is too small: it has half of the effects that two images have only together, one fitted
and the other judged. With maps refitted without the deleted images, these effects count twice (Efron and Stein). The variance
here is the mean of both, of log(1 - R2), whose distribution is less skewed than R2's and which keeps the bounds below 1.
docs/results/coverage-alignment.md has the measured coverage.
Legend: B images, G regions, C clusters, K groups of clusters, W two more than a width.

Sources: Efron and Stein, Ann. Statist. 9 (1981); deletion of groups, Shao and Tu, The Jackknife and Bootstrap (1995), section
5.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from batteries.geometry.estimates import student
from composer.procrustes.held_out import CHUNK, WORKING, Paired, r2_of
from composer.procrustes.polar import TINY

CONFIDENCE = 0.95
GROUPS = 32  # most groups, so that refits are few: 30 degrees of freedom widen the bounds by 4%
EXACT = 1e-12  # unexplained share below which it is rounding error
WIDEST = -math.log(EXACT)  # largest half width in log(1 - R2), for finite bounds


def r2_bounds(pair: Paired, error: Tensor, truth: Tensor) -> tuple[float, float]:
    """Return 95% bounds of the mean of R2 over other sets of as many images, with halves and maps of their own.

    Args:
        pair: Rows of both cells.
        error: Squared error (B,) of each image, held out.
        truth: Squared length (B,) of each image's target about the mean of the other half.
    """
    (refitted, kept), groups = log_variances(pair, error, truth)
    return log_bounds(float(pair.r2(pair.observed)), (refitted + kept) / 2, groups)


def log_bounds(r2: float, variance: float, groups: int) -> tuple[float, float]:
    """Return 95% bounds of R2 from the variance of log(1 - R2), estimated by deleting each of a number of groups.

    >>> low, high = log_bounds(0.5, 0.01, 32)
    >>> round(low, 3), round(high, 3)
    (0.387, 0.592)
    """
    half = min(WIDEST, student(CONFIDENCE, max(1, groups - 2)) * math.sqrt(variance))
    left = max(EXACT, 1 - r2)
    return 1 - left * math.exp(half), 1 - left * math.exp(-half)


def log_variances(pair: Paired, error: Tensor, truth: Tensor) -> tuple[tuple[float, float], int]:
    """Return the variances of log(1 - R2) with maps refitted and with maps kept, and the number of groups deleted."""
    group, count = groups_of(pair)
    whole = pair.sums(pair.observed)
    parts = pair.sums_by_group(group, count).split(max(1, CHUNK // (WORKING * whole[0, 0].numel())))
    refitted = 1 - torch.cat([r2_of(whole - part) for part in parts])
    kept = without(error, group, count) / without(truth, group, count).clamp_min(TINY)
    first, second = (jackknife_variance(share.clamp_min(EXACT).log()) for share in (refitted, kept))
    return (first, second), count


def groups_of(pair: Paired) -> tuple[Tensor, int]:
    """Return the group (B,) of each image, and the number of groups K, at most ``GROUPS``.

    A cluster is in one group. Clusters without common rows, which change nothing, are not counted.
    """
    rows = (pair.source[..., -1] * pair.target[..., -1]).sum(dim=1)
    known = torch.zeros(len(pair.split.sizes), dtype=rows.dtype).index_add(0, pair.split.cluster, rows) > 0
    count = min(GROUPS, int(known.sum()))
    return ((known.cumsum(0) - 1).clamp_min(0) % count)[pair.split.cluster], count


def without(values: Tensor, group: Tensor, count: int) -> Tensor:
    """Return the sums (..., K) of values (..., B) without each of the groups (B,)."""
    own = values.new_zeros(*values.shape[:-1], count).index_add(-1, group, values)
    return values.sum(dim=-1, keepdim=True) - own


def jackknife_variance(values: Tensor) -> float:
    """Return the variance of a figure from its values (K,) without each group."""
    return float((len(values) - 1) / len(values) * (values - values.mean()).square().sum())
