"""The 16 noise types, seeded and vectorised.

Every type is a function (n, C, H, W, generator) -> (n, C, H, W) float32; all values are clamped to [-4, 4]. Where the
published description leaves a choice open it is ours and marked so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from batteries.engine.torch_settings import PINNED, neutral

__all__ = ["CLAMP", "NAMES", "of_types", "random_batch"]

CLAMP = 4.0
CELL_SIDES = (2, 16)  # of blocks and checkerboard cells: 2 to 15 pixels


class Shape(NamedTuple):
    """How many images, and their size."""

    n: int
    channels: int
    height: int
    width: int


@neutral()
def of_types(types: Tensor, size: tuple[int, int], generator: Generator, *, channels: int = 3) -> Tensor:
    """Images of the given noise types.

    Args:
        types: (B,) integers from 0 to 15, an index into :data:`TYPES`.
        size: Height and width in pixels.
        generator: Source of all randomness; the same state and types give the same images.
        channels: Colour channels, independent but for the structured types' geometry.

    Returns:
        (B, channels, height, width) float32 in [-4, 4].
    """
    images = torch.empty(len(types), channels, *size, **PINNED)
    for index, (_, make) in enumerate(TYPES):
        chosen = (types == index).nonzero().squeeze(1)
        if len(chosen):
            images[chosen] = make(Shape(len(chosen), channels, *size), generator)
    return images.clamp_(-CLAMP, CLAMP)


@neutral()
def random_batch(
    batch: int, size: tuple[int, int], seed: int, *, types: Sequence[int] | None = None, channels: int = 3
) -> tuple[Tensor, Tensor]:
    """Batch of random noise types.

    Args:
        batch: Images.
        size: Height and width.
        seed: Of types and images.
        types: The types to draw from; all 16 where left out.
        channels: Colour channels.

    Returns:
        Images (batch, channels, height, width), and their types (batch,).
    """
    generator = Generator().manual_seed(seed)
    allowed = torch.tensor(range(len(TYPES)) if types is None else types)
    drawn = allowed[torch.randint(len(allowed), (batch,), generator=generator)]
    return of_types(drawn, size, generator, channels=channels), drawn


def _normal(shape: Shape, g: Generator) -> Tensor:
    return torch.randn(shape, generator=g, **PINNED)


def _rand(shape: Sequence[int], g: Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=g, **PINNED)


def _uniform(shape: Shape, g: Generator) -> Tensor:
    return _rand(shape, g, -1, 1)


def _uniform_wide(shape: Shape, g: Generator) -> Tensor:
    return _rand(shape, g, -2, 2)


def _poisson(shape: Shape, g: Generator) -> Tensor:
    """Counts of a rate drawn per image from U(0.5, 20), scaled to x / rate - 1."""
    rate = _rand((shape.n, 1, 1, 1), g, 0.5, 20)
    return torch.poisson(rate.expand(shape), generator=g) / rate - 1


def _coloured(shape: Shape, g: Generator, exponent: float) -> Tensor:
    """White noise with its amplitude spectrum divided by f**exponent, then unit standard deviation per image."""
    fy = torch.fft.fftfreq(shape.height, **PINNED)[:, None]
    fx = torch.fft.rfftfreq(shape.width, **PINNED)[None, :]
    frequency = (fy.square() + fx.square()).sqrt()
    frequency[0, 0] = 1 / max(shape.height, shape.width)  # the mean is kept as the lowest frequency
    spectrum = torch.fft.rfft2(_normal(shape, g)) / frequency**exponent
    images = torch.fft.irfft2(spectrum, s=(shape.height, shape.width))
    return images / images.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)


def _pink(shape: Shape, g: Generator) -> Tensor:
    return _coloured(shape, g, 1)


def _brown(shape: Shape, g: Generator) -> Tensor:
    return _coloured(shape, g, 2)


def _salt_and_pepper(shape: Shape, g: Generator) -> Tensor:
    """+2 or -2 at every pixel, with a little Gaussian."""
    return _signs(shape, g) * 2 + 0.1 * _normal(shape, g)


def _sparse(shape: Shape, g: Generator) -> Tensor:
    """One value in ten is Gaussian with sigma 3, the others zero."""
    return (_rand(shape, g) < 0.1) * _normal(shape, g) * 3


def _blocks(shape: Shape, g: Generator) -> Tensor:
    """Gaussian values held over square blocks of 2 to 15 pixels."""
    side = torch.randint(*CELL_SIDES, (shape.n, 1), generator=g)
    coarse = _normal(Shape(shape.n, shape.channels, -(-shape.height // 2), -(-shape.width // 2)), g)
    rows = torch.arange(shape.height) // side  # (n, H)
    columns = torch.arange(shape.width) // side  # (n, W)
    n = torch.arange(shape.n)[:, None, None, None]
    c = torch.arange(shape.channels)[None, :, None, None]
    return coarse[n, c, rows[:, None, :, None], columns[:, None, None, :]]


def _gradient(shape: Shape, g: Generator) -> Tensor:
    """Plane from -1 to 1 at a random angle, with Gaussian of sigma 0.5."""
    angle = _rand((shape.n, 1, 1, 1), g, 0, 2 * torch.pi)
    y = torch.linspace(-1, 1, shape.height, **PINNED)[:, None]
    x = torch.linspace(-1, 1, shape.width, **PINNED)[None, :]
    return angle.cos() * x + angle.sin() * y + 0.5 * _normal(shape, g)


def _checkerboard(shape: Shape, g: Generator) -> Tensor:
    """Cells of 2 to 15 pixels, +1 and -1, with Gaussian of sigma 0.3."""
    side = torch.randint(*CELL_SIDES, (shape.n, 1, 1), generator=g)
    parity = (torch.arange(shape.height)[:, None] // side + torch.arange(shape.width)[None, :] // side) % 2
    return (2 * parity.float() - 1)[:, None] + 0.3 * _normal(shape, g)


def _mixture(shape: Shape, g: Generator) -> Tensor:
    """Weighted sum of Gaussian and uniform [-1, 1]; the weight is drawn per image from U(0, 1) (ours)."""
    weight = _rand((shape.n, 1, 1, 1), g)
    return weight * _normal(shape, g) + (1 - weight) * _uniform(shape, g)


def _quadrants(shape: Shape, g: Generator) -> Tensor:
    """Gaussian, uniform, pink / 2 and +-1, one in each quarter."""
    half_y, half_x = shape.height // 2, shape.width // 2
    images = _normal(shape, g)
    images[..., :half_y, half_x:] = _uniform(shape, g)[..., :half_y, half_x:]
    images[..., half_y:, :half_x] = _pink(shape, g)[..., half_y:, :half_x] / 2
    images[..., half_y:, half_x:] = _signs(shape, g)[..., half_y:, half_x:]
    return images


def _cauchy(shape: Shape, g: Generator) -> Tensor:
    return torch.tan(torch.pi * (_rand(shape, g) - 0.5)).clamp_(-3, 3)


def _exponential(shape: Shape, g: Generator) -> Tensor:
    return -torch.log1p(-_rand(shape, g)) - 1


def _laplace(shape: Shape, g: Generator) -> Tensor:
    """Laplace of scale 1 by its inverse distribution function."""
    u = _rand(shape, g) - 0.5
    return -u.sign() * torch.log1p(-2 * u.abs().clamp_max(0.5 - 1e-7))


def _signs(shape: Shape, g: Generator) -> Tensor:
    return (_rand(shape, g) < 0.5).float() * 2 - 1


TYPES: tuple[tuple[str, Callable[[Shape, Generator], Tensor]], ...] = (
    ("gaussian", _normal),
    ("uniform", _uniform),
    ("uniform-wide", _uniform_wide),
    ("poisson", _poisson),
    ("pink", _pink),
    ("brown", _brown),
    ("salt-and-pepper", _salt_and_pepper),
    ("sparse", _sparse),
    ("blocks", _blocks),
    ("gradient", _gradient),
    ("checkerboard", _checkerboard),
    ("mixture", _mixture),
    ("quadrants", _quadrants),
    ("cauchy", _cauchy),
    ("exponential", _exponential),
    ("laplace", _laplace),
)
NAMES = tuple(name for name, _ in TYPES)
