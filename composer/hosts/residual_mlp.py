"""Parts shared by hosts: a residual stream, a residual MLP, a stem before the mounted cells, and standardised features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from batteries.engine.torch_settings import PINNED, neutral
from batteries.model.layers import LayerNorm

SPREAD_FLOOR = 1e-6  # divisor of features that do not vary in the sample


@dataclass(frozen=True)
class StreamForm:
    """Form of a residual MLP.

    Attributes:
        width: Width of the residual stream.
        blocks: Number of blocks of LayerNorm, Linear, GELU, Linear.
        terminal_norm: True to end the stream with a LayerNorm.
        block_norm: True to begin every block with a LayerNorm.

    >>> from composer import hosts
    >>> hosts.StreamForm(width=32, blocks=1)
    StreamForm(width=32, blocks=1, terminal_norm=True, block_norm=True)
    """

    width: int = 256
    blocks: int = 4
    terminal_norm: bool = True
    block_norm: bool = True


class Staged(nn.Module):
    """Host whose residual stream is in view: ``begin`` makes h_0, every block adds to it, ``finish`` reads h_L.

    Attributes:
        blocks: Residual branches f_l, with h_l = h_{l-1} + f_l(h_{l-1}).

    >>> import torch
    >>> from composer import hosts
    >>> mlp = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=2))
    >>> isinstance(mlp, hosts.Staged), mlp.begin(torch.zeros(5, 8)).shape, len(mlp.blocks)
    (True, torch.Size([5, 32]), 2)
    """

    blocks: nn.ModuleList

    def begin(self, x: Tensor) -> Tensor:
        """Map the input to the stream h_0, (B, ..., width)."""
        raise NotImplementedError

    def finish(self, h: Tensor) -> Tensor:
        """Map the stream h_L to the output."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Map the input to the output."""
        h = self.begin(x)
        for block in self.blocks:
            h = h + block(h)
        return self.finish(h)


class ResidualMLP(Staged):
    """Residual MLP, by default with LayerNorm before every block: (..., inputs) -> (..., outputs).

    Args:
        inputs: Width of the input.
        outputs: Width of the output.
        form: Form of the residual stream.

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
                LayerNorm(width, **PINNED) if form.block_norm else nn.Identity(),
                nn.Linear(width, width, **PINNED),
                nn.GELU(),
                nn.Linear(width, width, **PINNED),
            )
            for _ in range(form.blocks)
        )
        self.norm = LayerNorm(width, **PINNED) if form.terminal_norm else nn.Identity()
        self.leave = nn.Linear(width, outputs, **PINNED)

    def __repr__(self) -> str:
        widths = f"{self.enter.in_features} -> {self.leave.out_features}, width {self.enter.out_features}"
        normed = isinstance(self.norm, LayerNorm)
        return f"ResidualMLP({widths}, {len(self.blocks)} blocks, terminal_norm={normed})"

    def begin(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to the stream (..., width)."""
        h: Tensor = self.enter(x)
        return h

    def finish(self, h: Tensor) -> Tensor:
        """Map the stream (..., width) to (..., outputs)."""
        y: Tensor = self.leave(self.norm(h))
        return y

    def start_at_zero(self) -> None:
        """Zero the last layer, so that every output is zero before training."""
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)


class Stemmed(nn.Module):
    """Network with a stem that starts as the identity, and features standardised over a sample.

    Args:
        channels: Number of image channels.
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
        """Return the stem's output: the images plus a learned residual."""
        return images + self.stem(images)

    def features(self, images: Tensor) -> Tensor:
        """Compute the input of the MLP, (..., F), before standardisation."""
        raise NotImplementedError

    @neutral()
    @torch.no_grad()
    def scale_by(self, sample: Tensor) -> None:
        """Fix mean and spread of the features over a sample of images, and move the stem to its device."""
        self.stem.to(sample.device)
        features = self.features(sample).flatten(0, -2)
        self.register_buffer("shift", features.mean(dim=0))
        self.register_buffer("spread", features.std(dim=0).clamp_min(SPREAD_FLOOR))

    def standard(self, features: Tensor) -> Tensor:
        """Standardise features to zero mean and unit spread over the sample."""
        return (features - self.shift) / self.spread
