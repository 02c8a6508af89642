"""Parts of a cell that have custom backward passes, written in torch's operators, with derivatives of every order.

They serve transforms of operators (``torch.func``, forward mode, graph tracers) and gradients of gradients: slower, with the
same values and the same bound on the gaps of eigenvalues.

Eigenvectors are computed once, as constants, and then refined by steps that converge quadratically. The steps change only
rounding, but carry the derivatives: after s steps these are exact up to order 2**s - 1. Source: Ogita and Aishima, Japan J.
Indust. Appl. Math. 35 (2018), with their rule for clusters where eigenvalues are closer than the bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from batteries.engine import dispatch
from batteries.kernels import eigensolver

RIDGE = 1e-12  # added to the diagonal of the Gram matrix
EIGENVALUE_FLOOR = 1e-24
GAP_FLOOR = 1e-9  # smallest gap, relative to the largest eigenvalue
ROW_FLOOR = 1e-12  # smallest row length divided by
STEPS = 3  # refinement steps: exact to the seventh derivative


def wanted(*grads: Tensor | None) -> bool:
    """Return True if a backward pass is itself differentiated, runs for a batch of gradients, or under a transform."""
    if torch.compiler.is_compiling():
        return False
    return torch.is_grad_enabled() or dispatch.transformed() or dispatch.batched(*grads)


def pulled(
    function: Callable[..., Tensor], given: Sequence[Tensor], needed: Sequence[bool], grads: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Compute the gradients of a function of torch's operators on its inputs; differentiable if gradients are enabled."""
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        alone = [part.view_as(part) for part in given]  # inputs may depend on each other, or be the same
        out = function(*alone)
    places = [place for place, need in enumerate(needed) if need]
    found = torch.autograd.grad(out, [alone[place] for place in places], grads[0], create_graph=differentiable)
    by_place = dict(zip(places, found, strict=True))
    return tuple(by_place.get(place) for place in range(len(given)))


def unit_rows(M: Tensor) -> Tensor:
    """Divide every row of M (..., V, D) by its length."""
    return M * torch.linalg.vector_norm(M, dim=-1, keepdim=True).clamp_min(ROW_FLOOR).reciprocal()


def spectrum(M: Tensor) -> tuple[Tensor, Tensor]:
    """Compute singular values (..., D) of M (..., V, D), descending, and right singular vectors (..., D, D) in float64."""
    values, vectors = _frame(M)
    values, W = values.flip(-1), vectors.flip(-1)
    return values.clamp_min(EIGENVALUE_FLOOR).sqrt().to(M.dtype), W


def gate(M: Tensor, ratio: Tensor) -> Tensor:
    """Compute M W diag(ratio) W' for M (..., V, D) and ratio (..., D), with W the right singular vectors of M."""
    W = spectrum(M)[1]
    return M @ ((W * ratio.double()[..., None, :]) @ W.mT).to(M.dtype)


def smooth(images: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Add to images (B, C, height, width) a small convolution of them."""
    return images + F.conv2d(F.gelu(F.conv2d(images, w1, b1, padding=1)), w2, b2, padding=1)


def layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Normalise the last axis as ``F.layer_norm`` does, whose forward-mode derivative has a wrong derivative (torch 2.13)."""
    moved = x - x.mean(dim=-1, keepdim=True)
    normed = moved / (moved.square().mean(dim=-1, keepdim=True) + eps).sqrt()
    return normed if weight is None or bias is None else normed * weight + bias


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute softmax(q k' / sqrt(d)) v for (..., N, d)."""
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v


def _frame(M: Tensor) -> tuple[Tensor, Tensor]:
    """Compute eigenvalues, ascending, and eigenvectors of M'M + ridge in float64."""
    wide = M.double()
    one = torch.eye(M.shape[-1], dtype=torch.float64, device=M.device)
    gram = wide.mT @ wide + RIDGE * one
    _, W = eigensolver.eigh(gram.detach())
    for _ in range(STEPS):
        W = W + W @ _change(gram, W, one)
    return _quotients(gram, W), W


def _change(gram: Tensor, W: Tensor, one: Tensor) -> Tensor:
    """Compute E (..., D, D) such that W + W E is closer to the eigenvectors of a Gram matrix."""
    missing, inner = one - W.mT @ W, W.mT @ gram @ W
    values = _quotients(gram, W)
    gaps = values[..., None, :] - values[..., :, None]
    floor = (GAP_FLOOR * values.amax(dim=-1, keepdim=True) + RIDGE)[..., None]
    apart = gaps.abs() > floor
    gaps = torch.where(apart, gaps, torch.ones_like(gaps))  # otherwise a second derivative of 1 / floor**2 dominates
    slopes = gaps / (gaps.square() + floor.square())
    return torch.where(apart, (inner + values[..., None, :] * missing) * slopes, missing / 2)


def _quotients(gram: Tensor, W: Tensor) -> Tensor:
    """Compute the Rayleigh quotients (..., D)."""
    return (W * (gram @ W)).sum(dim=-2) / W.square().sum(dim=-2)
