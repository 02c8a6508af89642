"""Networks around a cell: a stem before it, so that a gradient passes through it, and a pre-LayerNorm residual MLP behind it.

Legend: B images, N patches, V rows, D width, P = channels * patch side**2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor, nn

from batteries.model import Output, Tokens
from composer.container import CellOutput, Container


class Mounted(Protocol):
    """A cell as a host sees it: a :class:`batteries.PatchSVAE`, or one cell of a container."""

    def tokens(self, images: Tensor) -> Tokens:
        """Images (B, channels, height, width) to M, S and omega."""
        ...

    def __call__(self, images: Tensor) -> Output | CellOutput:
        """The same with a reconstruction."""
        ...


class FrozenCell:
    """One cell of a container, mounted: its weights are out of every optimiser's reach.

    Args:
        container: Holds it.
        name: Which; the first where left out.
    """

    def __init__(self, container: Container, name: str | None = None) -> None:
        self.container = container
        self.name = name or container.names[0]

    def tokens(self, images: Tensor) -> Tokens:
        """Images to M, S and omega."""
        return self.container.tokens(images)[self.name]

    def __call__(self, images: Tensor) -> CellOutput:
        """The same with a reconstruction."""
        return self.container(images)[self.name]


@dataclass(frozen=True)
class StreamForm:
    """Form of a residual MLP.

    Attributes:
        width: Of the residual stream.
        blocks: Of LayerNorm, Linear, GELU, Linear.
        terminal_norm: Whether a LayerNorm ends the stream.
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
    """

    def __init__(self, inputs: int, outputs: int, form: StreamForm) -> None:
        super().__init__()
        width = form.width
        self.enter = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(form.blocks)
        )
        self.norm = nn.LayerNorm(width) if form.terminal_norm else nn.Identity()
        self.leave = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        h = self.enter(x)
        for block in self.blocks:
            h = h + block(h)
        y: Tensor = self.leave(self.norm(h))
        return y


class _Host(nn.Module):
    """A stem that starts as the identity, and features standardised by those of a sample."""

    shift: Tensor
    spread: Tensor

    def __init__(self, cell: Mounted, sample: Tensor) -> None:
        super().__init__()
        self._mounted = (cell,)  # in a tuple: a module would become a part of the host, and its weights the host's
        channels = sample.shape[1]
        self.stem = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.stem.weight)
        assert self.stem.bias is not None
        nn.init.zeros_(self.stem.bias)
        with torch.no_grad():
            features = self.features(sample).flatten(0, -2)
        self.register_buffer("shift", features.mean(dim=0))
        self.register_buffer("spread", features.std(dim=0).clamp_min(1e-6))

    @property
    def cell(self) -> Mounted:
        """What is mounted."""
        return self._mounted[0]

    def fed(self, images: Tensor) -> Tensor:
        """What the stem gives the cell: the images and a learned residual."""
        return images + self.stem(images)

    def features(self, images: Tensor) -> Tensor:
        """What the MLP reads, before it is standardised."""
        raise NotImplementedError

    def standard(self, features: Tensor) -> Tensor:
        """Zero mean and unit spread over the sample."""
        return (features - self.shift) / self.spread


class NamingHost(_Host):
    """Names what an image is from the mean and standard deviation over patches of the cell's omega.

    Args:
        cell: Mounted; not a submodule, so that its weights are the caller's business.
        sample: Images (B, channels, height, width) that fix the scale of the features.
        classes: To name.
        form: Of the MLP.
    """

    def __init__(self, cell: Mounted, sample: Tensor, classes: int, form: StreamForm) -> None:
        super().__init__(cell, sample)
        self.mlp = ResidualMLP(len(self.shift), classes, form)

    def features(self, images: Tensor) -> Tensor:
        """(B, 2 D)."""
        omega = self.cell.tokens(self.fed(images)).omega
        return torch.cat([omega.mean(dim=1), omega.std(dim=1)], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (B, classes)."""
        scores: Tensor = self.mlp(self.standard(self.features(images)))
        return scores


class RestoringHost(_Host):
    """Restores an image: the cell's reconstruction, and a correction of every patch from the rows of its M.

    Args:
        cell: Mounted.
        sample: Images (B, channels, height, width) that fix the scale of the features.
        form: Of the MLP.
    """

    def __init__(self, cell: Mounted, sample: Tensor, form: StreamForm) -> None:
        super().__init__(cell, sample)
        with torch.no_grad():
            patches = self.cell(sample[:1]).M.shape[1]
        self.mlp = ResidualMLP(len(self.shift), sample[0].numel() // patches, form)
        nn.init.zeros_(self.mlp.leave.weight)
        nn.init.zeros_(self.mlp.leave.bias)

    def features(self, images: Tensor) -> Tensor:
        """(B, N, V D)."""
        return self.cell.tokens(self.fed(images)).M.flatten(2)

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) -> the same shape."""
        out = self.cell(self.fed(images))
        correction = self.mlp(self.standard(out.M.flatten(2)))  # (B, N, P)
        side = math.isqrt(correction.shape[2] // images.shape[1])
        rows = images.shape[2] // side
        correction = rearrange(correction, "B (gh gw) (C p q) -> B C (gh p) (gw q)", gh=rows, p=side, q=side, C=images.shape[1])
        restored: Tensor = out.recon + correction
        return restored


HostFactory = Callable[[Mounted, Tensor, int], nn.Module]  # a mounted cell, a sample of images, classes (0: restore)
