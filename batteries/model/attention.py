"""Attention with torch's fused operator, which has only a first derivative on the CPU, extended to every order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from batteries.engine import dispatch
from batteries.engine.torch_settings import uncast_backward
from batteries.model import derivatives

__all__ = ["attend"]


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute softmax(q k' / sqrt(d)) v for (..., N, d), as ``F.scaled_dot_product_attention`` does."""
    if dispatch.transformed():
        return derivatives.attend(q, k, v)
    if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and any(part.requires_grad for part in (q, k, v))):
        return F.scaled_dot_product_attention(q, k, v)
    attended: Tensor = _Attend.apply(q, k, v)  # type: ignore[no-untyped-call]
    return attended


class _Attend(torch.autograd.Function):
    """Fused operator with its own backward pass; higher orders use plain operators."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        return F.scaled_dot_product_attention(q, k, v)

    @staticmethod
    @uncast_backward
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        plainly = derivatives.wanted(*grads)
        function = derivatives.attend if plainly else F.scaled_dot_product_attention
        return derivatives.pulled(function, ctx.saved_tensors, ctx.needs_input_grad, grads)
