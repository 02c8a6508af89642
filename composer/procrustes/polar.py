"""Batched orthogonal polar factor of a matrix: the rotation of one set of axes onto another.

The factor of cross = U diag(s) V' is U V'. Large batches of a cell's width are computed by a kernel, see
:mod:`composer.procrustes.moments`; otherwise V and s come from the Gram matrix. Nearly singular matrices use an SVD.

Sources: Schoenemann, Psychometrika 31 (1966), for the orthogonal map of largest trace; Umeyama, IEEE PAMI 13 (1991), for that
without reflection.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from batteries.engine import dispatch
from batteries.kernels import eigensolver
from composer.procrustes import moments

Reflection = Literal["allowed", "forbidden"]

NEGLIGIBLE = 1e-12  # of the largest singular value; a smaller one does not determine the sign of its axis
GRAM_CONDITION = 1e-8  # of the largest squared singular value; the roots of smaller ones have lost too many digits
TINY = torch.finfo(torch.float64).tiny


def turn(cross: Tensor, reflection: Reflection) -> tuple[Tensor, Tensor, Tensor]:
    """Find the orthogonal R (..., D, D) with the largest trace(R' cross), that trace (...), and the sign (...) of det R.

    Where the smallest singular value is negligible, R and its reflection in that axis are equally good, and the one with
    determinant +1 is returned.
    """
    dispatch.refuse_derivative("a fitted rotation", cross)
    flat = cross.reshape(-1, *cross.shape[-2:])
    rotation, trace, determinant = moments.polar(flat) or _polar_with_sign(flat)
    weak, mirrored = determinant == 0, (determinant < 0) & (reflection == "forbidden")
    if bool(mirrored.any()):
        least = eigensolver.gram_eigh(flat[mirrored])[1][..., :1]  # reflected where it costs least
        rotation[mirrored] -= 2 * rotation[mirrored] @ least @ least.mT
    if bool(weak.any()):
        rotation[weak] = _polar_of_weak(flat[weak], reflection)
    changed = mirrored | weak
    if bool(changed.any()):
        trace[changed] = _trace(rotation[changed], flat[changed])
        determinant[changed] = sign(rotation[changed])
    return rotation.view_as(cross), trace.view(cross.shape[:-2]), determinant.view(cross.shape[:-2])


def polar(cross: Tensor) -> Tensor:
    """Compute U V' of tall or square matrices (P, n, d): orthonormal columns, arbitrary along undetermined axes."""
    dispatch.refuse_derivative("a fitted rotation", cross)
    found = moments.polar(cross)
    rotation, weak = (found.rotation, found.determinant == 0) if found else _polar(cross)
    if bool(weak.any()):
        left, _, right = torch.linalg.svd(cross[weak], full_matrices=False)
        rotation[weak] = left @ right
    return rotation


def sign(rotation: Tensor) -> Tensor:
    """Return the sign of the determinant of (..., D, D)."""
    return torch.linalg.det(rotation).sign()


def _trace(rotation: Tensor, cross: Tensor) -> Tensor:
    return (rotation * cross).sum(dim=(-2, -1))


def _polar_with_sign(cross: Tensor) -> moments.Polar:
    """Compute the results of the kernel by torch operators."""
    rotation, weak = _polar(cross)
    return moments.Polar(rotation, _trace(rotation, cross), torch.where(weak, 0.0, sign(rotation)))


def _polar(cross: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the factors U V' of cross = U diag(singular) V', and a mask of those that lost too many digits.

    U = cross V / singular loses as many digits as the square of the condition number has; one Newton step recovers them:
    with E = U'U - 1, to first order, U V' is U (1 - E_ij s_i / (s_i + s_j)) V'.
    """
    squares, axes = eigensolver.gram_eigh(cross)
    singular = squares.clamp_min(TINY).sqrt()
    left = cross @ (axes / singular[:, None, :])
    error = left.mT @ left
    error.diagonal(dim1=-2, dim2=-1).sub_(1.0)
    step = error * (singular[:, :, None] / (singular[:, :, None] + singular[:, None, :]))
    return (left - left @ step) @ axes.mT, squares[:, 0] <= GRAM_CONDITION * squares[:, -1]


def _polar_of_weak(cross: Tensor, reflection: Reflection) -> Tensor:
    """Compute the factors of nearly singular matrices by SVD."""
    left, singular, right = torch.linalg.svd(cross)
    rotation = left @ right
    undecided = singular[..., -1] <= NEGLIGIBLE * singular[..., 0]
    mirrored = (sign(rotation) < 0) & (undecided | (reflection == "forbidden"))
    turned_back = rotation - 2 * left[..., :, -1:] @ right[..., -1:, :]
    return torch.where(mirrored[..., None, None], turned_back, rotation)
