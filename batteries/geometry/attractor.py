"""Exact attractors, and labels derived from a CV. Does not import torch.

Moments on the sphere: R. E. Miles, "Isotropic random simplices", Advances in Applied Probability 3 (1971). Moments of the
bulk: the chi-square factorisation of a Gaussian Gram determinant (Bartlett).
"""

from __future__ import annotations

import math

from batteries.cell.manifest import Band

SIMPLEX = 4  # edges from one vertex of a pentachoron, which has five
# band and window of the widths for which one was published; elsewhere the window is that of the attractor
WINDOWS: dict[int, tuple[Band, float, float]] = {4: ("high", 0.80, math.inf), 8: ("mid", 0.35, 0.50), 16: ("low", 0.13, 0.30)}
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
    """Return the band of a measured CV, which is that of the cell's own width or ``off``.

    Args:
        value: CV, the axial one where it is known.
        D: Width of the cell.

    Returns:
        ``low`` for D = 16, ``mid`` for 8, ``high`` for 4, inside the window published for it; ``open`` for other widths, on the
        attractor; ``off`` outside; None if the CV is no finite number or D < 4, where all 4-volumes vanish.

    >>> from batteries import geometry
    >>> geometry.band(0.2, 16), geometry.band(0.36, 8), geometry.band(1.3, 4), geometry.band(0.15, 24)
    ('low', 'mid', 'high', 'open')
    >>> geometry.band(0.36, 16), geometry.band(0.3, 24), geometry.band(float("nan"), 16)
    ('off', 'off', None)
    """
    if D < SIMPLEX or not math.isfinite(value):
        return None
    if D not in WINDOWS:
        return "open" if on_attractor(value, D) else "off"
    name, low, high = WINDOWS[D]
    return name if low <= value < high else "off"


def band_of(value: float | None, D: int) -> Band | None:
    """Return the band of a cell: that of its CV, or ``open`` for widths below 4, which have no CV.

    >>> band_of(0.2, 16), band_of(None, 3), band_of(None, 16)
    ('low', 'open', None)
    """
    if D < SIMPLEX:
        return "open"
    return None if value is None else band(value, D)


def on_attractor(value: float, D: int) -> bool:
    """Return True if CV / exact sphere CV lies in [0.85, 1.25]; never for a CV that is no number, or for D < 4.

    >>> from batteries import geometry
    >>> geometry.on_attractor(0.2, 16), geometry.on_attractor(0.37, 16)
    (True, False)
    """
    return D >= SIMPLEX and ON_ATTRACTOR[0] <= value / sphere_cv(D) <= ON_ATTRACTOR[1]


def _sphere_log_moment(d: int, k: int, q: int) -> float:
    """Return log E[(k! volume)^q] for k+1 points uniform on the unit sphere of d dimensions."""
    G = math.lgamma
    total = sum(G((d - k + q + j) / 2) - G((d - k + j) / 2) for j in range(1, k + 1))
    total += (k + 1) * (G(d / 2) - G((d + q) / 2))
    return total + G((k + 1) * (d + q) / 2 - k) - G((k + 1) * (d + q) / 2 - k - q / 2)
