"""The orthogonal factor of a matrix: how one set of axes is turned onto another, batched.

Of cross = U diag(s) V' it is U V'. V and s come from the Gram matrix, which is the fast way for many small ones; matrices that
are nearly singular go to an SVD.

Sources: Schoenemann, Psychometrika 31 (1966), for the orthogonal map of largest trace; Umeyama, IEEE PAMI 13 (1991), for that
without reflection.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from batteries import eigen

Reflection = Literal["allowed", "forbidden"]

NEGLIGIBLE = 1e-12  # of the largest singular value: a smaller one does not say whether its axis is turned over
GRAM_CONDITION = 1e-8  # of the squared singular values: below it their roots have lost too many digits
TINY = torch.finfo(torch.float64).tiny


def turn(cross: Tensor, reflection: Reflection) -> tuple[Tensor, Tensor]:
    """The orthogonal R (..., D, D) with the largest trace(R' cross), and that trace (...).

    Where the smallest singular value is nothing, R and its mirror image in that axis do as well: the one of determinant +1
    is taken.
    """
    flat = cross.reshape(-1, *cross.shape[-2:])
    values, axes = eigen.eigh(flat.mT @ flat)
    weak = values[:, 0] <= GRAM_CONDITION * values[:, -1]
    rotation = _polar(flat, values.clamp_min(TINY).sqrt(), axes)
    mirrored = sign(rotation) < 0
    if reflection == "forbidden":
        least = axes[..., :1] @ axes[..., :1].mT  # turned over where it costs least
        rotation = torch.where(mirrored[:, None, None], rotation - 2 * rotation @ least, rotation)
    if bool(weak.any()):
        rotation[weak] = _polar_of_weak(flat[weak], reflection)
    return rotation.view_as(cross), (rotation * flat).sum(dim=(-2, -1)).view(cross.shape[:-2])


def polar(cross: Tensor) -> Tensor:
    """U V' of tall or square ones (P, n, d): orthonormal columns. Axes that ``cross`` leaves open are turned anyhow."""
    values, axes = eigen.eigh(cross.mT @ cross)
    weak = values[:, 0] <= GRAM_CONDITION * values[:, -1]
    rotation = _polar(cross, values.clamp_min(TINY).sqrt(), axes)
    if bool(weak.any()):
        left, _, right = torch.linalg.svd(cross[weak], full_matrices=False)
        rotation[weak] = left @ right
    return rotation


def sign(rotation: Tensor) -> Tensor:
    """Of the determinant of (..., D, D)."""
    return torch.linalg.det(rotation).sign()


def _polar(cross: Tensor, singular: Tensor, axes: Tensor) -> Tensor:
    """The orthogonal factor U V' of cross = U diag(singular) V', from V and the singular values.

    U = cross V / singular has lost as many digits as the square of the condition number has; one Newton step gives them back:
    with E = U'U - 1, to first order, U V' is U (1 - E_ij s_i / (s_i + s_j)) V'.
    """
    left = cross @ (axes / singular[:, None, :])
    error = left.mT @ left
    error.diagonal(dim1=-2, dim2=-1).sub_(1.0)
    step = error * (singular[:, :, None] / (singular[:, :, None] + singular[:, None, :]))
    return (left - left @ step) @ axes.mT


def _polar_of_weak(cross: Tensor, reflection: Reflection) -> Tensor:
    """The same by torch's own SVD, for matrices that are nearly singular."""
    left, singular, right = torch.linalg.svd(cross)
    rotation = left @ right
    undecided = singular[..., -1] <= NEGLIGIBLE * singular[..., 0]
    mirrored = (sign(rotation) < 0) & (undecided | (reflection == "forbidden"))
    turned_back = rotation - 2 * left[..., :, -1:] @ right[..., -1:, :]
    return torch.where(mirrored[..., None, None], turned_back, rotation)
