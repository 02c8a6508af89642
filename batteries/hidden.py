"""The layers of a cell: activations, blocks, first weights, boundary smoothing, and a layer norm.

Torch's own layer norm is wrong where its forward-mode derivative is differentiated (2.13).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from batteries import derivatives, dispatch
from batteries.settings import PINNED
from batteries.smoothing import smooth
from batteries.spec import CellSpec

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}


def normed(x: Tensor) -> Tensor:
    """Every vector (..., width) less its mean, over its standard deviation."""
    return derivatives.layer_norm(x) if dispatch.transformed() else F.layer_norm(x, x.shape[-1:])


class LayerNorm(nn.LayerNorm):
    """Torch's own, with derivatives of every order."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same shape."""
        return derivatives.layer_norm(x, self.weight, self.bias) if dispatch.transformed() else super().forward(x)


def hidden_block(width: int, activation: type[nn.Module]) -> nn.Sequential:
    """A residual block's change of (..., width)."""
    first, last = (nn.Linear(width, width, **PINNED) for _ in range(2))
    return nn.Sequential(LayerNorm(width, **PINNED), first, activation(), last)


def initialise(weight: Tensor, spec: CellSpec) -> None:
    """Draw the last weights of an encoder as the spec says."""
    match spec.init:
        case "orthogonal":
            nn.init.orthogonal_(weight)
        case "kaiming_normal":
            nn.init.kaiming_normal_(weight)
        case "xavier_uniform":
            nn.init.xavier_uniform_(weight)
        case "small_normal":
            nn.init.normal_(weight, std=0.02)


class BoundarySmooth(nn.Module):
    """A small residual convolution across patch boundaries; the identity at the start."""

    def __init__(self, spec: CellSpec) -> None:
        super().__init__()
        last = nn.Conv2d(spec.smooth_width, spec.channels, 3, padding=1, **PINNED)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(nn.Conv2d(spec.channels, spec.smooth_width, 3, padding=1, **PINNED), nn.GELU(), last)

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) -> the same shape."""
        return smooth(images, _weights(self.net[0]), _weights(self.net[2]))


def _weights(layer: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    return layer.weight, layer.bias
