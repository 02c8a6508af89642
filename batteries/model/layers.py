"""Layers of a cell: activations, blocks, initialisation, boundary smoothing, and a layer norm.

Torch's own layer norm (2.13) has a wrong third derivative, and a wrong derivative of its forward-mode derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from batteries.cell.spec import CellSpec
from batteries.engine import dispatch
from batteries.engine.torch_settings import PINNED
from batteries.model import derivatives
from batteries.model.boundary_smoothing import smooth

EPS = 1e-5  # torch's default for a layer norm
NARROW_GAIN = 0.5  # as published of the second round; docs/decisions/0048-narrow-readouts.md

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}


def first_activation(spec: CellSpec) -> type[nn.Module]:
    """Return the activation after ``enc_in``."""
    return ACTIVATIONS[spec.activation]


def activation_of(spec: CellSpec) -> type[nn.Module]:
    """Return the activation of all layers after ``enc_in``."""
    return ACTIVATIONS[spec.activation if spec.activation_sites == "all" else "gelu"]


def normed(x: Tensor) -> Tensor:
    """Subtract from every vector (..., width) its mean, and divide it by its standard deviation."""
    return _layer_norm(x, None, None)


class LayerNorm(nn.LayerNorm):
    """Torch's layer norm, with derivatives of every order."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise vectors (..., width)."""
        return _layer_norm(x, self.weight, self.bias)


class _LayerNorm(torch.autograd.Function):
    """Torch's operators forward and backward; higher orders use :func:`derivatives.layer_norm`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        out, mean, deviation = torch.native_layer_norm(x, x.shape[-1:], weight, bias, EPS)
        ctx.save_for_backward(x, weight, bias, mean, deviation)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight, bias, mean, deviation = ctx.saved_tensors
        needed: Sequence[bool] = ctx.needs_input_grad
        if not derivatives.wanted(*grads):
            shape, given = x.shape[-1:], (mean, deviation, weight, bias)
            return torch.ops.aten.native_layer_norm_backward(grads[0], x, shape, *given, list(needed))
        if weight is None:
            return (*derivatives.pulled(derivatives.layer_norm, [x], needed[:1], grads), None, None)
        return derivatives.pulled(derivatives.layer_norm, [x, weight, bias], needed, grads)


def _layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if dispatch.transformed():
        return derivatives.layer_norm(x, weight, bias)
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or _is_cast(x.device.type):
        return F.layer_norm(x, x.shape[-1:], weight, bias, EPS)
    found: Tensor = _LayerNorm.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return found


def _is_cast(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def hidden_block(width: int, activation: type[nn.Module]) -> nn.Sequential:
    """Make the residual branch of a block on (..., width)."""
    first, last = (nn.Linear(width, width, **PINNED) for _ in range(2))
    return nn.Sequential(LayerNorm(width, **PINNED), first, activation(), last)


def initialise(weight: Tensor, spec: CellSpec) -> None:
    """Initialise the last weights of an encoder as the spec says."""
    match spec.init:
        case "orthogonal":
            nn.init.orthogonal_(weight)
        case "kaiming_normal":
            nn.init.kaiming_normal_(weight)
        case "xavier_uniform":
            nn.init.xavier_uniform_(weight)
        case "small_normal":
            nn.init.normal_(weight, std=0.02)


class NarrowReadout(nn.Module):
    """Matrices from M onto D numbers, its code, and from the code back onto V D numbers.

    Args:
        spec: Spec with a narrow readout: without a layer norm on the code and with torch's start (``narrow``), or with one, and
            with orthogonal matrices of gain 0.5 and biases of 0 at the start.
    """

    def __init__(self, spec: CellSpec) -> None:
        super().__init__()
        self.width = spec.D
        self.down = nn.Linear(spec.V * spec.D, spec.D, **PINNED)
        self.norm = nn.Identity() if spec.readout == "narrow" else LayerNorm(spec.D, **PINNED)
        self.up = nn.Linear(spec.D, spec.V * spec.D, **PINNED)
        for layer in (self.down, self.up) if spec.readout != "narrow" else ():
            nn.init.orthogonal_(layer.weight, gain=NARROW_GAIN)
            nn.init.zeros_(layer.bias)

    def coded(self, M: Tensor) -> Tensor:
        """Map M (..., V, D) to its code (..., D)."""
        code: Tensor = self.norm(self.down(M.flatten(-2)))
        return code

    def rebuilt(self, code: Tensor) -> Tensor:
        """Map a code (..., D) to a matrix (..., V, D)."""
        return self.up(code).unflatten(-1, (-1, self.width))


class BoundarySmooth(nn.Module):
    """Small residual convolution across patch boundaries, initialised to the identity."""

    def __init__(self, spec: CellSpec) -> None:
        super().__init__()
        last = nn.Conv2d(spec.smooth_width, spec.channels, 3, padding=1, **PINNED)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(nn.Conv2d(spec.channels, spec.smooth_width, 3, padding=1, **PINNED), nn.GELU(), last)

    def forward(self, images: Tensor) -> Tensor:
        """Smooth images (B, channels, height, width)."""
        return smooth(images, _weights(self.net[0]), _weights(self.net[2]))


def _weights(layer: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    return layer.weight, layer.bias
