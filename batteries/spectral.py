"""The spectral stage of a cell: singular values of M by way of its Gram matrix, and the gate on its modes.

For M of shape (V, D): G = M'M in float64, eigh(G + 1e-12 I) = W diag(lambda) W', S = sqrt(max(lambda, 1e-24)), descending.
The gated matrix is M_hat = U diag(r S) W' = M W diag(r) W', with r the factor by which cross-attention scales each mode;
U is never formed.

Both steps carry their own backward. With A = W diag(r) W' and C = W' M' dM_hat W (symmetrised),

    d/dr_i = C_ii,    d/dG = W [C_ij (r_j - r_i) / (lambda_j - lambda_i)]_{i != j} W',    d/dM = dM_hat A + 2 M d/dG,

and for the singular values alone d/dM = M W diag(dS / S) W'. The one denominator that can vanish is the gap of two
eigenvalues; it is bounded as g / (g^2 + eps^2) with eps = 1e-9 of the largest eigenvalue, so that equal singular values,
orthonormal columns and rank one give finite gradients, and gaps above 1e-3 are not disturbed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from batteries import eigen

RIDGE = 1e-12  # added to the diagonal of the Gram matrix
EIGENVALUE_FLOOR = 1e-24
SINGULAR_FLOOR = 1e-16
GAP_FLOOR = 1e-9  # of the largest eigenvalue


class Spectrum(NamedTuple):
    """Singular values of a stack of matrices, and the frame they belong to.

    Attributes:
        S: (..., D) descending, in the dtype of M; carries gradients to M.
        W: (..., D, D) float64, right singular vectors as columns in the order of S; a constant for autograd.
    """

    S: Tensor
    W: Tensor


def spectrum(M: Tensor) -> Spectrum:
    """Singular values and right singular vectors of M (..., V, D)."""
    S, W = _Spectrum.apply(M)  # type: ignore[no-untyped-call]
    return Spectrum(S, W)


def singular_values(M: Tensor) -> Tensor:
    """The S of :func:`spectrum`, (..., D); without its frame where no gradient will ask for it."""
    if torch.is_grad_enabled() and M.requires_grad:
        return spectrum(M).S
    values = eigen.gram_eigvalsh(M, RIDGE).flip(-1)
    return values.clamp_min(EIGENVALUE_FLOOR).sqrt().to(M.dtype)


def gate(M: Tensor, found: Spectrum, ratio: Tensor) -> Tensor:
    """M_hat = M W diag(ratio) W', with gradients to M (through the frame too) and to ratio.

    Args:
        M: (..., V, D).
        found: ``spectrum(M)``.
        ratio: (..., D), the factor of each mode, S_coord / S.

    Returns:
        (..., V, D), in the dtype of M.
    """
    gated: Tensor = _Gate.apply(M, found.W, ratio)  # type: ignore[no-untyped-call]
    return gated


class _Spectrum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, M: Tensor) -> tuple[Tensor, Tensor]:
        values, vectors = eigen.gram_eigh(M, RIDGE)
        values, W = values.flip(-1), vectors.flip(-1)
        S = values.clamp_min(EIGENVALUE_FLOOR).sqrt()
        ctx.save_for_backward(M, S, W)
        ctx.mark_non_differentiable(W)
        return S.to(M.dtype), W

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        M, S, W = ctx.saved_tensors
        pull = _sandwich(W, grads[0].double() / S.clamp_min(SINGULAR_FLOOR))
        return M @ pull.to(M.dtype)


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, M: Tensor, W: Tensor, ratio: Tensor) -> Tensor:
        ctx.save_for_backward(M, W, ratio)
        return M @ _sandwich(W, ratio.double()).to(M.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor]:
        M, W, ratio = ctx.saved_tensors
        wide, r = M.double(), ratio.double()
        inner = W.mT @ (wide.mT @ grads[0].double()) @ W  # (..., D, D)
        inner = (inner + inner.mT) / 2
        values = (wide @ W).square().sum(dim=-2)  # eigenvalues again: cheaper than keeping them
        gaps = values[..., None, :] - values[..., :, None]
        bound = (GAP_FLOOR * values.amax(dim=-1, keepdim=True) + RIDGE).square()[..., None]
        slopes = (r[..., None, :] - r[..., :, None]) * gaps / (gaps.square() + bound)
        on_gram = W @ (inner * slopes) @ W.mT
        pull = grads[0] @ _sandwich(W, r).to(M.dtype) + M @ (2 * on_gram).to(M.dtype)
        return pull, None, inner.diagonal(dim1=-2, dim2=-1).to(ratio.dtype)


def _sandwich(W: Tensor, weights: Tensor) -> Tensor:
    """W diag(weights) W' for (..., D, D) and (..., D)."""
    return (W * weights[..., None, :]) @ W.mT
