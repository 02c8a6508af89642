"""What every host has: a stem before what it mounts, features on one scale, a pre-LayerNorm residual MLP behind them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from batteries.engine.torch_settings import PINNED, neutral
from batteries.model.layers import LayerNorm

SPREAD_FLOOR = 1e-6  # a feature that does not vary in the sample is divided by this


@dataclass(frozen=True)
class StreamForm:
    """Form of a residual MLP.

    Attributes:
        width: Of the residual stream.
        blocks: Of LayerNorm, Linear, GELU, Linear.
        terminal_norm: Whether a LayerNorm ends the stream.

    >>> from composer import hosts
    >>> hosts.StreamForm(width=32, blocks=1)
    StreamForm(width=32, blocks=1, terminal_norm=True)
    """

    width: int = 256
    blocks: int = 4
    terminal_norm: bool = True


class ResidualMLP(nn.Module):
    """A residual stream with LayerNorm before every block: (..., inputs) -> (..., outputs).

    Args:
        inputs: Width of what comes in.
        outputs: Width of what goes out.
        form: Of the stream.

    >>> import torch
    >>> from composer import hosts
    >>> mlp = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=1))
    >>> mlp(torch.zeros(5, 8)).shape
    torch.Size([5, 3])
    """

    @neutral()
    def __init__(self, inputs: int, outputs: int, form: StreamForm) -> None:
        super().__init__()
        width = form.width
        self.enter = nn.Linear(inputs, width, **PINNED)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                LayerNorm(width, **PINNED), nn.Linear(width, width, **PINNED), nn.GELU(), nn.Linear(width, width, **PINNED)
            )
            for _ in range(form.blocks)
        )
        self.norm = LayerNorm(width, **PINNED) if form.terminal_norm else nn.Identity()
        self.leave = nn.Linear(width, outputs, **PINNED)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        h = self.enter(x)
        for block in self.blocks:
            h = h + block(h)
        y: Tensor = self.leave(self.norm(h))
        return y

    def start_at_zero(self) -> None:
        """Make every output zero until it learns otherwise."""
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)


class Stemmed(nn.Module):
    """A stem that starts as the identity, and features standardised by those of a sample.

    Args:
        channels: Of the images.
    """

    shift: Tensor
    spread: Tensor

    @neutral()
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, channels, 3, padding=1, **PINNED)
        nn.init.zeros_(self.stem.weight)
        assert self.stem.bias is not None
        nn.init.zeros_(self.stem.bias)

    def fed(self, images: Tensor) -> Tensor:
        """What the stem gives on: the images and a learned residual."""
        return images + self.stem(images)

    def features(self, images: Tensor) -> Tensor:
        """What the MLP reads (..., F), before it is standardised."""
        raise NotImplementedError

    @neutral()
    @torch.no_grad()
    def scale_by(self, sample: Tensor) -> None:
        """Fix the features' scale by those of a sample of images, on whose device the stem is put."""
        self.stem.to(sample.device)
        features = self.features(sample).flatten(0, -2)
        self.register_buffer("shift", features.mean(dim=0))
        self.register_buffer("spread", features.std(dim=0).clamp_min(SPREAD_FLOOR))

    def standard(self, features: Tensor) -> Tensor:
        """Zero mean and unit spread over the sample."""
        return (features - self.shift) / self.spread
