"""Hosts of images with a residual stream: a small vision transformer with a class token, and a convolutional network.

Legend: B images, N tokens, D width of the stream.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from batteries.engine.torch_settings import PINNED, neutral
from batteries.errors import InputError
from batteries.model.layers import LayerNorm
from composer.hosts.residual_mlp import Staged


@dataclass(frozen=True)
class ImageForm:
    """Form of a host of images.

    Attributes:
        channels: Channels of the images.
        side: Height and width of the images in pixels.
        width: Width of the stream: features of a token, or channels of a map.
        blocks: Number of residual blocks.
        patch: Side of a token in pixels; without meaning in a convolutional network.
        heads: Attention heads; without meaning in a convolutional network.

    Raises:
        InputError: sides or widths that do not divide (``IMAGE_FORM``).

    >>> from composer import hosts
    >>> hosts.ImageForm(width=32)
    ImageForm(channels=3, side=16, width=32, blocks=4, patch=4, heads=4)
    """

    channels: int = 3
    side: int = 16
    width: int = 64
    blocks: int = 4
    patch: int = 4
    heads: int = 4

    def __post_init__(self) -> None:
        if self.side % self.patch or self.width % self.heads:
            found = f"side {self.side}, patch {self.patch}, width {self.width}, heads {self.heads}"
            expected = "patch a divisor of side, heads one of width"
            raise InputError("invalid form of a host", code="IMAGE_FORM", expected=expected, found=found)


class _TransformerBranch(nn.Module):
    """Attention and MLP of a pre-LayerNorm transformer block, as one branch: what they add to the stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = LayerNorm(width, **PINNED), LayerNorm(width, **PINNED)
        self.qkv, self.mixed = nn.Linear(width, 3 * width, **PINNED), nn.Linear(width, width, **PINNED)
        self.wide, self.narrow = nn.Linear(width, 2 * width, **PINNED), nn.Linear(2 * width, width, **PINNED)

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(self.first(h)), "B N (three heads d) -> three B heads N d", three=3, heads=self.heads)
        attended: Tensor = self.mixed(rearrange(F.scaled_dot_product_attention(q, k, v), "B heads N d -> B N (heads d)"))
        added: Tensor = attended + self.narrow(F.gelu(self.wide(self.second(h + attended))))
        return added


class VisionTransformer(Staged):
    """Pre-LayerNorm vision transformer that reads its class token: (B, channels, side, side) -> (B, outputs).

    Args:
        outputs: Width of the output.
        form: Form of the host.

    >>> import torch
    >>> from composer import hosts
    >>> hosts.VisionTransformer(outputs=16, form=hosts.ImageForm(blocks=2))(torch.zeros(5, 3, 16, 16)).shape
    torch.Size([5, 16])
    """

    @neutral()
    def __init__(self, outputs: int, form: ImageForm) -> None:
        super().__init__()
        self.enter = nn.Conv2d(form.channels, form.width, form.patch, stride=form.patch, **PINNED)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, form.width, **PINNED))
        self.places = nn.Parameter(0.02 * torch.randn(1, 1 + (form.side // form.patch) ** 2, form.width, **PINNED))
        self.blocks = nn.ModuleList(_TransformerBranch(form.width, form.heads) for _ in range(form.blocks))
        self.norm = LayerNorm(form.width, **PINNED)
        self.leave = nn.Linear(form.width, outputs, **PINNED)

    def __repr__(self) -> str:
        return f"VisionTransformer(width {self.enter.out_channels}, {len(self.blocks)} blocks)"

    def begin(self, x: Tensor) -> Tensor:
        """Map images (B, channels, side, side) to tokens (B, 1 + N, D)."""
        tokens = self.enter(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(len(x), 1, -1), tokens], dim=1) + self.places

    def finish(self, h: Tensor) -> Tensor:
        """Map the class token of (B, 1 + N, D) to (B, outputs)."""
        y: Tensor = self.leave(self.norm(h[:, 0]))
        return y


class ConvNet(Staged):
    """Residual convolutional network with BatchNorm: (B, channels, side, side) -> (B, outputs).

    Args:
        outputs: Width of the output.
        form: Form of the host.

    >>> import torch
    >>> from composer import hosts
    >>> hosts.ConvNet(outputs=16, form=hosts.ImageForm(width=16, blocks=2))(torch.zeros(5, 3, 16, 16)).shape
    torch.Size([5, 16])
    """

    @neutral()
    def __init__(self, outputs: int, form: ImageForm) -> None:
        super().__init__()
        width = form.width
        self.enter = nn.Conv2d(form.channels, width, 3, padding=1, **PINNED)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(width, **PINNED),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, **PINNED),
                nn.BatchNorm2d(width, **PINNED),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, **PINNED),
            )
            for _ in range(form.blocks)
        )
        self.norm = nn.BatchNorm2d(width, **PINNED)
        self.leave = nn.Linear(width, outputs, **PINNED)

    def __repr__(self) -> str:
        return f"ConvNet(width {self.enter.out_channels}, {len(self.blocks)} blocks)"

    def begin(self, x: Tensor) -> Tensor:
        """Map images (B, channels, side, side) to maps (B, D, side, side)."""
        h: Tensor = self.enter(x)
        return h

    def finish(self, h: Tensor) -> Tensor:
        """Map maps (B, D, side, side) to (B, outputs)."""
        y: Tensor = self.leave(F.relu(self.norm(h)).mean(dim=(2, 3)))
        return y
