"""Exact attractors, and labels derived from a CV. Does not import torch.

Moments on the sphere: R. E. Miles, "Isotropic random simplices", Advances in Applied Probability 3 (1971). Moments of the
bulk: the chi-square factorisation of a Gaussian Gram determinant (Bartlett).
"""

from __future__ import annotations

import math

from batteries.cell.manifest import Band

SIMPLEX = 4  # edges from one vertex of a pentachoron, which has five
WINDOWS: dict[Band, tuple[float, float]] = {"low": (0.13, 0.30), "mid": (0.35, 0.50), "high": (0.80, math.inf)}
WINDOW_WIDTHS = (4, 8, 16)  # widths for which windows were published; elsewhere the band is open
ON_ATTRACTOR = (0.85, 1.25)  # range of CV / exact CV


def sphere_cv(D: int, k: int = SIMPLEX) -> float:
    """Return the exact CV of the k-volume of k+1 points uniform on the unit sphere of D dimensions (Miles 1971).

    >>> from batteries import geometry
    >>> [round(geometry.sphere_cv(D), 5) for D in (4, 8, 16, 32)]
    [0.92307, 0.3624, 0.20297, 0.12724]
    """
    first, second = _sphere_log_moment(D, k, 1), _sphere_log_moment(D, k, 2)
    return math.sqrt(math.expm1(second - 2 * first))


def bulk_cv(D: int, k: int = SIMPLEX) -> float:
    """Return the exact CV of the k-volume of k+1 standard Gaussian points in D dimensions.

    CV^2 + 1 = product over j = 1..k of E[chi^2_{D-k+j}] / E[chi_{D-k+j}]^2 (Bartlett's decomposition).

    >>> from batteries import geometry
    >>> [round(geometry.bulk_cv(D), 4) for D in (4, 8, 16)]
    [1.291, 0.6094, 0.3856]
    """
    log_ratio = 0.0
    for freedom in range(D - k + 1, D + 1):
        log_mean = 0.5 * math.log(2) + math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
        log_ratio += math.log(freedom) - 2 * log_mean
    return math.sqrt(math.expm1(log_ratio))


def band(value: float, D: int) -> Band | None:
    """Return the band of a measured CV: a window's name, ``open`` if no window was published for D, None in a gap.

    >>> from batteries import geometry
    >>> geometry.band(0.2, 16), geometry.band(0.32, 16), geometry.band(1.3, 4), geometry.band(0.15, 24)
    ('low', None, 'high', 'open')
    """
    if D not in WINDOW_WIDTHS:
        return "open"
    return next((name for name, (low, high) in WINDOWS.items() if low <= value < high), None)


def on_attractor(value: float, D: int) -> bool:
    """Return True if CV / exact sphere CV lies in [0.85, 1.25].

    >>> from batteries import geometry
    >>> geometry.on_attractor(0.2, 16), geometry.on_attractor(0.37, 16)
    (True, False)
    """
    return ON_ATTRACTOR[0] <= value / sphere_cv(D) <= ON_ATTRACTOR[1]


def _sphere_log_moment(d: int, k: int, q: int) -> float:
    """Return log E[(k! volume)^q] for k+1 points uniform on the unit sphere of d dimensions."""
    G = math.lgamma
    total = sum(G((d - k + q + j) / 2) - G((d - k + j) / 2) for j in range(1, k + 1))
    total += (k + 1) * (G(d / 2) - G((d + q) / 2))
    return total + G((k + 1) * (d + q) / 2 - k) - G((k + 1) * (d + q) / 2 - k - q / 2)
