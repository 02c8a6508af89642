"""The 16 noise types, seeded and vectorised, in two mixes: that of this package, and the published one.

Every type is a function (n, C, H, W, generator) -> (n, C, H, W) float32; all values are clamped to [-4, 4]. Choices that the
published description leaves open are marked "own choice". :class:`Mix` has all in which the mixes differ; docs/noise.md tells
what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from batteries.cell.manifest import OWN_MIX, NoiseMix
from batteries.engine.torch_settings import PINNED, neutral
from batteries.errors import InputError

__all__ = ["CLAMP", "NAMES", "of_types", "random_batch"]

CLAMP = 4.0
CELL_SIDES = (2, 16)  # sides of blocks and checkerboard cells: 2 to 15 pixels


class Shape(NamedTuple):
    """Number of images, and their size."""

    n: int
    channels: int
    height: int
    width: int


Maker = Callable[[Shape, Generator], Tensor]


class Mix(NamedTuple):
    """Choices in which the mixes differ.

    Attributes:
        plane: Largest value of a gradient's plane.
        weight: Range of the weight of Gaussian noise in a mixture.
        lowest: Frequency that the mean of coloured noise counts as; None for the lowest of the image (own choice).
        scaled_quarter: True if the pink quarter of the quadrants has unit standard deviation before it is halved.
    """

    plane: float
    weight: tuple[float, float]
    lowest: float | None
    scaled_quarter: bool


MIXES: dict[NoiseMix, Mix] = {
    "batteries": Mix(plane=1.0, weight=(0.0, 1.0), lowest=None, scaled_quarter=True),
    "published": Mix(plane=2.0, weight=(0.2, 0.8), lowest=1e-8, scaled_quarter=False),
}


def refuse_unknown(mix: str) -> None:
    """Check the name of a mix.

    Raises:
        InputError: no mix of that name (``NOISE_MIX``).
    """
    if mix not in MIXES:
        raise InputError("unknown noise mix", code="NOISE_MIX", expected=" | ".join(MIXES), found=mix)


def indices_of(names: Iterable[str]) -> tuple[int, ...]:
    """Return the indices of noise types by name, ascending.

    Raises:
        InputError: unknown or doubled name, or no name (``NOISE_TYPE``).
    """
    given = list(names)
    unknown = [name for name in given if name not in NAMES]
    if unknown or not given:
        raise InputError("unknown noise type", code="NOISE_TYPE", expected=", ".join(NAMES), found=", ".join(unknown) or "none")
    if doubled := sorted({name for name in given if given.count(name) > 1}):
        raise InputError("duplicate noise type", code="NOISE_TYPE", expected="each type once", found=", ".join(doubled))
    return tuple(sorted(map(NAMES.index, given)))


@neutral()
def of_types(
    types: Tensor, size: tuple[int, int], generator: Generator, *, channels: int = 3, mix: NoiseMix = OWN_MIX
) -> Tensor:
    """Generate images of the given noise types.

    Args:
        types: Indices (B,) into :data:`NAMES`, from 0 to 15.
        size: Height and width in pixels.
        generator: Source of all randomness; the same state and types give the same images.
        channels: Colour channels, independent except for the geometry of the structured types.
        mix: Mix, ``batteries`` or ``published``; both draw the same random numbers.

    Returns:
        (B, channels, height, width) float32 in [-4, 4].

    Raises:
        InputError: no mix of that name (``NOISE_MIX``).

    >>> import torch
    >>> from batteries import noise
    >>> generator = torch.Generator().manual_seed(0)
    >>> noise.of_types(torch.tensor([0, 3]), (32, 32), generator).shape
    torch.Size([2, 3, 32, 32])
    """
    refuse_unknown(mix)
    images = torch.empty(len(types), channels, *size, **PINNED)
    for index, make in enumerate(TYPES[mix].values()):
        chosen = (types == index).nonzero().squeeze(1)
        if len(chosen):
            images[chosen] = make(Shape(len(chosen), channels, *size), generator)
    return images.clamp_(-CLAMP, CLAMP)


@neutral()
def random_batch(
    batch: int,
    size: tuple[int, int],
    seed: int,
    *,
    types: Sequence[int] | None = None,
    channels: int = 3,
    mix: NoiseMix = OWN_MIX,
) -> tuple[Tensor, Tensor]:
    """Generate a batch of images of random noise types.

    Args:
        batch: Number of images.
        size: Height and width in pixels.
        seed: Seed of types and images.
        types: Indices of the types to draw from; by default all 16.
        channels: Colour channels.
        mix: Mix, as in :func:`of_types`.

    Returns:
        Images (batch, channels, height, width) and their types (batch,).

    Raises:
        InputError: no mix of that name (``NOISE_MIX``).

    >>> from batteries import noise
    >>> images, types = noise.random_batch(4, (32, 32), seed=0)
    >>> images.shape, [noise.NAMES[index] for index in types]
    (torch.Size([4, 3, 32, 32]), ['quadrants', 'laplace', 'brown', 'gaussian'])
    """
    generator = Generator().manual_seed(seed)
    allowed = torch.tensor(range(len(NAMES)) if types is None else types)
    drawn = allowed[torch.randint(len(allowed), (batch,), generator=generator)]
    return of_types(drawn, size, generator, channels=channels, mix=mix), drawn


def _normal(shape: Shape, g: Generator) -> Tensor:
    return torch.randn(shape, generator=g, **PINNED)


def _rand(shape: Sequence[int], g: Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=g, **PINNED)


def _uniform(shape: Shape, g: Generator) -> Tensor:
    return _rand(shape, g, -1, 1)


def _uniform_wide(shape: Shape, g: Generator) -> Tensor:
    return _rand(shape, g, -2, 2)


def _poisson(shape: Shape, g: Generator) -> Tensor:
    """Draw counts of a rate that is drawn per image from U(0.5, 20), scaled to x / rate - 1."""
    rate = _rand((shape.n, 1, 1, 1), g, 0.5, 20)
    return torch.poisson(rate.expand(shape), generator=g) / rate - 1


def _coloured(shape: Shape, g: Generator, exponent: float, lowest: float | None) -> Tensor:
    """Divide the amplitude spectrum of white noise by f**exponent, then scale each image to unit standard deviation."""
    images = _filtered(shape, g, exponent, lowest)
    return images / images.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)


def _filtered(shape: Shape, g: Generator, exponent: float, lowest: float | None) -> Tensor:
    fy = torch.fft.fftfreq(shape.height, **PINNED)[:, None]
    fx = torch.fft.rfftfreq(shape.width, **PINNED)[None, :]
    frequency = (fy.square() + fx.square()).sqrt()
    frequency[0, 0] = 1 / max(shape.height, shape.width) if lowest is None else lowest
    spectrum = torch.fft.rfft2(_normal(shape, g)) / frequency**exponent
    return torch.fft.irfft2(spectrum, s=(shape.height, shape.width))


def _salt_and_pepper(shape: Shape, g: Generator) -> Tensor:
    """Draw +2 or -2 at every pixel, with Gaussian noise of sigma 0.1."""
    return _signs(shape, g) * 2 + 0.1 * _normal(shape, g)


def _sparse(shape: Shape, g: Generator) -> Tensor:
    """Draw one value in ten from a Gaussian of sigma 3; the others are zero."""
    return (_rand(shape, g) < 0.1) * _normal(shape, g) * 3


def _blocks(shape: Shape, g: Generator) -> Tensor:
    """Draw Gaussian values constant over square blocks of 2 to 15 pixels."""
    side = torch.randint(*CELL_SIDES, (shape.n, 1), generator=g)
    coarse = _normal(Shape(shape.n, shape.channels, -(-shape.height // 2), -(-shape.width // 2)), g)
    rows = torch.arange(shape.height) // side  # (n, H)
    columns = torch.arange(shape.width) // side  # (n, W)
    n = torch.arange(shape.n)[:, None, None, None]
    c = torch.arange(shape.channels)[None, :, None, None]
    return coarse[n, c, rows[:, None, :, None], columns[:, None, None, :]]


def _gradient(shape: Shape, g: Generator, plane: float) -> Tensor:
    """Make a plane from -plane to plane at a random angle, with Gaussian noise of sigma 0.5."""
    angle = _rand((shape.n, 1, 1, 1), g, 0, 2 * torch.pi)
    y = torch.linspace(-1, 1, shape.height, **PINNED)[:, None]
    x = torch.linspace(-1, 1, shape.width, **PINNED)[None, :]
    return plane * (angle.cos() * x + angle.sin() * y) + 0.5 * _normal(shape, g)


def _checkerboard(shape: Shape, g: Generator) -> Tensor:
    """Make a checkerboard of cells of 2 to 15 pixels, +1 and -1, with Gaussian noise of sigma 0.3."""
    side = torch.randint(*CELL_SIDES, (shape.n, 1, 1), generator=g)
    parity = (torch.arange(shape.height)[:, None] // side + torch.arange(shape.width)[None, :] // side) % 2
    return (2 * parity.float() - 1)[:, None] + 0.3 * _normal(shape, g)


def _mixture(shape: Shape, g: Generator, bounds: tuple[float, float]) -> Tensor:
    """Mix Gaussian and uniform [-1, 1] noise with a weight drawn per image from U(bounds) (0 and 1: own choice)."""
    weight = _rand((shape.n, 1, 1, 1), g, *bounds)
    return weight * _normal(shape, g) + (1 - weight) * _uniform(shape, g)


def _quadrants(shape: Shape, g: Generator, pink: Maker) -> Tensor:
    """Fill the quarters of an image with Gaussian, uniform, pink / 2 and +-1 noise."""
    half_y, half_x = shape.height // 2, shape.width // 2
    images = _normal(shape, g)
    images[..., :half_y, half_x:] = _uniform(shape, g)[..., :half_y, half_x:]
    images[..., half_y:, :half_x] = pink(shape, g)[..., half_y:, :half_x] / 2
    images[..., half_y:, half_x:] = _signs(shape, g)[..., half_y:, half_x:]
    return images


def _cauchy(shape: Shape, g: Generator) -> Tensor:
    return torch.tan(torch.pi * (_rand(shape, g) - 0.5)).clamp_(-3, 3)


def _exponential(shape: Shape, g: Generator) -> Tensor:
    return -torch.log1p(-_rand(shape, g)) - 1


def _laplace(shape: Shape, g: Generator) -> Tensor:
    """Draw from the Laplace distribution of scale 1 by its inverse distribution function."""
    u = _rand(shape, g) - 0.5
    return -u.sign() * torch.log1p(-2 * u.abs().clamp_max(0.5 - 1e-7))


def _signs(shape: Shape, g: Generator) -> Tensor:
    return (_rand(shape, g) < 0.5).float() * 2 - 1


def _types(mix: Mix) -> dict[str, Maker]:
    """Return the generators of a mix by the name of their type, in the published order."""
    quarter = _coloured if mix.scaled_quarter else _filtered
    return {
        "gaussian": _normal,
        "uniform": _uniform,
        "uniform-wide": _uniform_wide,
        "poisson": _poisson,
        "pink": partial(_coloured, exponent=1, lowest=mix.lowest),
        "brown": partial(_coloured, exponent=2, lowest=mix.lowest),
        "salt-and-pepper": _salt_and_pepper,
        "sparse": _sparse,
        "blocks": _blocks,
        "gradient": partial(_gradient, plane=mix.plane),
        "checkerboard": _checkerboard,
        "mixture": partial(_mixture, bounds=mix.weight),
        "quadrants": partial(_quadrants, pink=partial(quarter, exponent=1, lowest=mix.lowest)),
        "cauchy": _cauchy,
        "exponential": _exponential,
        "laplace": _laplace,
    }


TYPES = {name: _types(mix) for name, mix in MIXES.items()}
NAMES = tuple(TYPES[OWN_MIX])
