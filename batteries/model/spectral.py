"""Spectral stage of a cell: singular values of M from its Gram matrix, and the gate on its modes.

For M of shape (V, D): G = M'M in float64, eigh(G + 1e-12 I) = W diag(lambda) W', S = sqrt(max(lambda, 1e-24)), descending.
The gated matrix is M_hat = U diag(r S) W' = M W diag(r) W', with r the factor by which cross-attention scales each mode;
U is never formed.

Both steps have custom backward passes. With A = W diag(r) W' and C = W' M' dM_hat W (symmetrised),

    d/dr_i = C_ii,    d/dG = W [C_ij (r_j - r_i) / (lambda_j - lambda_i)]_{i != j} W',    d/dM = dM_hat A + 2 M d/dG,

and for the singular values alone d/dM = M W diag(dS / S) W'. The only denominator that can vanish is the gap of two
eigenvalues; it is bounded as g / (g^2 + eps^2) with eps = 1e-9 of the largest eigenvalue, so that equal singular values,
orthonormal columns and rank one give finite gradients, and gaps above 1e-3 are not affected.

On the CPU the gate of narrow M and its backward pass use the kernels of :mod:`batteries.kernels.spectral_gate` if numba is
installed (the ``fast`` extra): the same sums, one matrix at a time.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from batteries.engine import dispatch
from batteries.engine.torch_settings import uncast_backward
from batteries.kernels import eigensolver
from batteries.kernels.jit import Kernels, share
from batteries.model import derivatives
from batteries.model.derivatives import EIGENVALUE_FLOOR, GAP_FLOOR, RIDGE
from batteries.model.derivatives import ROW_FLOOR as ROW_FLOOR

SINGULAR_FLOOR = 1e-16
NARROW, MANY = 8, 64  # largest width and smallest number of matrices for which the kernels of the gate are faster
NANOSECONDS = 1.5  # time of the kernels, times V D**2


class Spectrum(NamedTuple):
    """Singular values of a stack of matrices, and their right singular vectors.

    Attributes:
        S: Singular values (..., D), descending, in the dtype of M; differentiable with respect to M.
        W: Right singular vectors (..., D, D), float64, as columns in the order of S; a constant for autograd.
    """

    S: Tensor
    W: Tensor


def spectrum(M: Tensor) -> Spectrum:
    """Compute the singular values and right singular vectors of M (..., V, D)."""
    if dispatch.transformed():
        S, W = derivatives.spectrum(M)
        return Spectrum(S, W.detach())
    return Spectrum(*_Spectrum.apply(M))  # type: ignore[no-untyped-call]


def singular_values(M: Tensor) -> Tensor:
    """Compute S (..., D) of :func:`spectrum`, without W if no gradient needs it."""
    if dispatch.transformed() or (torch.is_grad_enabled() and M.requires_grad):
        return spectrum(M).S
    values = eigensolver.gram_eigvalsh(M, RIDGE).flip(-1)
    return values.clamp_min(EIGENVALUE_FLOOR).sqrt().to(M.dtype)


def gate(M: Tensor, found: Spectrum, ratio: Tensor) -> Tensor:
    """Compute M_hat = M W diag(ratio) W', differentiable with respect to M (also through W) and ratio.

    Args:
        M: Matrices (..., V, D).
        found: Result of ``spectrum(M)``.
        ratio: Factor of each mode (..., D), S_coord / S.

    Returns:
        Gated matrices (..., V, D), in the dtype of M.
    """
    if dispatch.transformed():
        return derivatives.gate(M, ratio)
    gated: Tensor = _Gate.apply(M, found.W, ratio)  # type: ignore[no-untyped-call]
    return gated


def unit_rows(M: Tensor) -> Tensor:
    """Divide every row of M (..., V, D) by its length (at least 1e-12), with a backward pass of few operators."""
    if dispatch.transformed():
        return derivatives.unit_rows(M)
    unit: Tensor = _UnitRows.apply(M)  # type: ignore[no-untyped-call]
    return unit


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, raw: Tensor) -> Tensor:
        shrink = torch.linalg.vector_norm(raw, dim=-1, keepdim=True).clamp_min_(ROW_FLOOR).reciprocal_()
        M = raw * shrink
        ctx.save_for_backward(raw, M, shrink)
        return M

    @staticmethod
    @uncast_backward
    def backward(ctx: Any, *grads: Tensor) -> Tensor | None:
        raw, M, shrink = ctx.saved_tensors
        if derivatives.wanted(*grads):
            return derivatives.pulled(derivatives.unit_rows, (raw,), (True,), grads)[0]
        along = torch.linalg.vecdot(M, grads[0]).unsqueeze(-1)
        return torch.addcmul(grads[0], M, along, value=-1).mul_(shrink)


class _Spectrum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, M: Tensor) -> tuple[Tensor, Tensor]:
        values, vectors = eigensolver.gram_eigh(M, RIDGE)
        values, W = values.flip(-1), vectors.flip(-1)
        S = values.clamp_min(EIGENVALUE_FLOOR).sqrt()
        ctx.save_for_backward(M, S, W)
        ctx.mark_non_differentiable(W)
        return S.to(M.dtype), W

    @staticmethod
    @uncast_backward
    def backward(ctx: Any, *grads: Tensor) -> Tensor | None:
        M, S, W = ctx.saved_tensors
        if derivatives.wanted(*grads):
            return derivatives.pulled(lambda M: derivatives.spectrum(M)[0], (M,), (True,), grads)[0]
        return _gated(M, W, grads[0].double() / S.clamp_min(SINGULAR_FLOOR))


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, M: Tensor, W: Tensor, ratio: Tensor) -> Tensor:
        ctx.save_for_backward(M, W, ratio)
        return _gated(M, W, ratio.double())

    @staticmethod
    @uncast_backward
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        M, W, ratio = ctx.saved_tensors
        if derivatives.wanted(*grads):
            needed = ctx.needs_input_grad[0], ctx.needs_input_grad[2]
            on_M, on_ratio = derivatives.pulled(derivatives.gate, (M, ratio), needed, grads)
            return on_M, None, on_ratio
        on_M, on_ratio = _pulled(M, W, ratio.double(), grads[0])
        return on_M, None, on_ratio.to(ratio.dtype)


def _gated(M: Tensor, W: Tensor, weights: Tensor) -> Tensor:
    """Compute M W diag(weights) W' for weights in float64."""
    kernels = _kernels(M, W, weights)
    if kernels is None:
        return M @ _sandwich(W, weights).to(M.dtype)
    out = torch.empty_like(M, memory_format=torch.contiguous_format)
    _run(kernels.gate, M, [M, W, weights], [out])
    return out


def _pulled(M: Tensor, W: Tensor, r: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gradients of the gate on M and, in float64, on the weights r."""
    kernels = _kernels(M, W, r, grad)
    if kernels is not None:
        on_M, on_r = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (M, r))
        _run(kernels.pull, M, [M, W, r, grad], [(GAP_FLOOR, RIDGE), on_M, on_r])
        return on_M, on_r
    wide = M.double()
    inner = W.mT @ (wide.mT @ grad.double()) @ W  # (..., D, D)
    inner = (inner + inner.mT) / 2
    values = (wide @ W).square().sum(dim=-2)  # recomputing eigenvalues is cheaper than storing them
    gaps = values[..., None, :] - values[..., :, None]
    bound = (GAP_FLOOR * values.amax(dim=-1, keepdim=True) + RIDGE).square()[..., None]
    slopes = (r[..., None, :] - r[..., :, None]) * gaps / (gaps.square() + bound)
    on_gram = W @ (inner * slopes) @ W.mT
    on_M = grad @ _sandwich(W, r).to(M.dtype) + M @ (2 * on_gram).to(M.dtype)
    return on_M, inner.diagonal(dim1=-2, dim2=-1)


def _sandwich(W: Tensor, weights: Tensor) -> Tensor:
    """Compute W diag(weights) W' for W (..., D, D) and weights (..., D)."""
    return (W * weights[..., None, :]) @ W.mT


def _kernels(M: Tensor, *given: Tensor) -> Any:
    """Return the compiled kernels for M and the other inputs, or None to use torch's products."""
    V, D = M.shape[-2:]
    if not _modes.serves(M, *given, each=V * D) or D > NARROW:
        return None
    return _modes(D, M.dtype)


def _try(kernels: Any, D: int, dtype: torch.dtype) -> None:
    M = torch.ones(1, 1, D, dtype=dtype, device="cpu")
    W, r = (torch.ones(shape, dtype=torch.float64, device="cpu") for shape in ((1, D, D), (1, D)))
    _run(kernels.gate, M, [M, W, r], [M.clone()])
    _run(kernels.pull, M, [M, W, r, M], [(GAP_FLOOR, RIDGE), M.clone(), r.clone()])


_modes = Kernels(
    "batteries.kernels.spectral_gate",
    lambda module, D, dtype: module.kernels(D),
    _try,
    dtypes=(torch.float32, torch.float64),
    fewest=MANY,
)


def _run(kernel: Any, M: Tensor, given: list[Tensor], rest: list[Any]) -> None:
    """Run a kernel on all matrices, with inputs made flat and contiguous and outputs written in place."""
    V, D = M.shape[-2:]
    stack = M.ndim - 2  # axes in front of V
    arguments = [x.detach().contiguous().flatten(0, stack - 1).numpy() if isinstance(x, Tensor) else x for x in (*given, *rest)]
    share(partial(kernel, *arguments), M.numel() // (V * D), NANOSECONDS * V * D**2)
