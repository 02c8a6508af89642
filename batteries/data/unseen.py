"""Images that no training of ours has seen: sixteen further noise laws, English-like text as bytes, other contrasts.

The laws have mean 0 and standard deviation 1, and are clamped as the known types are. The list is our own choice: published
diagnostics speak of sixteen unseen laws without defining them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Generator, Tensor

from batteries.data.english_like import english_like
from batteries.engine.torch_settings import PINNED, neutral
from batteries.errors import InputError
from batteries.noise import CLAMP, of_types

CONTRASTS = (0.05, 0.25, 4.0)  # factors of known Gaussian noise
LEAST_PIXELS, MOST_PIXELS = 2, 4096  # sides; a spectrum of one pixel has its mean alone
EULER = 0.5772156649015329  # Euler's constant, the mean of Gumbel's law
WEIBULL = 0.7  # shape, heavy-tailed
GEOMETRIC = 0.3  # probability of a success
DRIFT = 0.95  # correlation of neighbours along a row

Shape = tuple[int, int, int, int]  # images, channels, height, width
Law = Callable[[Shape, Generator], Tensor]


@neutral()
def unseen(name: str, count: int, size: int, seed: int, channels: int = 3) -> Tensor:
    """Generate images of a kind that training has not seen.

    Args:
        name: Name in :data:`NAMES`.
        count: Number of images.
        size: Side in pixels.
        seed: Seed of the images.
        channels: Colour channels.

    Returns:
        (count, channels, size, size) float32 in [-4, 4].

    Raises:
        InputError: no kind of that name (``UNSEEN``), or a number or size that it has no images of (``IMAGE_SIZE``).

    >>> unseen("arcsine", 2, 16, seed=0).shape
    torch.Size([2, 3, 16, 16])
    """
    if name not in KINDS:
        raise InputError("unknown kind of unseen images", code="UNSEEN", expected=" | ".join(KINDS), found=name)
    if count < 1 or not LEAST_PIXELS <= size <= MOST_PIXELS:
        expected = f"an image or more, of {LEAST_PIXELS} to {MOST_PIXELS} pixels"
        raise InputError("no such images", code="IMAGE_SIZE", expected=expected, found=f"{count} of {size} pixels", where=name)
    generator = Generator().manual_seed(seed)
    return KINDS[name]((count, channels, size, size), generator).clamp_(-CLAMP, CLAMP)


def _u(shape: Sequence[int], g: Generator) -> Tensor:
    """Draw from the open interval (0, 1)."""
    return torch.rand(*shape, generator=g, **PINNED).clamp_(1e-7, 1 - 1e-7)


def _triangular(shape: Shape, g: Generator) -> Tensor:
    return (_u(shape, g) + _u(shape, g) - 1) * math.sqrt(6)


def _arcsine(shape: Shape, g: Generator) -> Tensor:
    return torch.cos(math.pi * _u(shape, g)) * math.sqrt(2)


def _logistic(shape: Shape, g: Generator) -> Tensor:
    return torch.logit(_u(shape, g)) * math.sqrt(3) / math.pi


def _gumbel(shape: Shape, g: Generator) -> Tensor:
    return (-torch.log(-torch.log(_u(shape, g))) - EULER) * math.sqrt(6) / math.pi


def _student(shape: Shape, g: Generator) -> Tensor:
    """Draw from Student's law of 4 degrees of freedom, whose variance is 2."""
    chi_square = -2 * torch.log(_u(shape, g) * _u(shape, g))
    return torch.randn(shape, generator=g, **PINNED) / (chi_square / 4).sqrt() / math.sqrt(2)


def _lognormal(shape: Shape, g: Generator) -> Tensor:
    """Draw exp(z / 2) of a normal z."""
    variance = 0.25
    drawn = torch.exp(math.sqrt(variance) * torch.randn(shape, generator=g, **PINNED))
    return (drawn - math.exp(variance / 2)) / math.sqrt(math.expm1(variance) * math.exp(variance))


def _rayleigh(shape: Shape, g: Generator) -> Tensor:
    return ((-2 * torch.log(_u(shape, g))).sqrt() - math.sqrt(math.pi / 2)) / math.sqrt(2 - math.pi / 2)


def _erlang(shape: Shape, g: Generator) -> Tensor:
    """Draw the sum of two exponential variables."""
    return (-torch.log(_u(shape, g) * _u(shape, g)) - 2) / math.sqrt(2)


def _weibull(shape: Shape, g: Generator) -> Tensor:
    mean, square = (math.gamma(1 + power / WEIBULL) for power in (1, 2))
    return ((-torch.log(_u(shape, g))) ** (1 / WEIBULL) - mean) / math.sqrt(square - mean**2)


def _geometric(shape: Shape, g: Generator) -> Tensor:
    """Draw the number of failures before the first success."""
    drawn = torch.floor(torch.log(_u(shape, g)) / math.log1p(-GEOMETRIC))
    return (drawn - (1 - GEOMETRIC) / GEOMETRIC) / (math.sqrt(1 - GEOMETRIC) / GEOMETRIC)


def _ternary(shape: Shape, g: Generator) -> Tensor:
    """Draw -1, 0 or 1, equally likely, scaled."""
    return torch.randint(-1, 2, shape, generator=g).float() * math.sqrt(1.5)


def _spectral(shape: Shape, g: Generator, exponent: float) -> Tensor:
    """Multiply the amplitude spectrum of white noise by f**exponent, then scale each image."""
    height, width = shape[2:]
    fy, fx = torch.fft.fftfreq(height, **PINNED)[:, None], torch.fft.rfftfreq(width, **PINNED)[None, :]
    spectrum = torch.fft.rfft2(torch.randn(shape, generator=g, **PINNED)) * (fy.square() + fx.square()).sqrt() ** exponent
    images = torch.fft.irfft2(spectrum, s=(height, width))
    return images / images.std(dim=(1, 2, 3), keepdim=True)


def _grid(shape: Shape) -> tuple[Tensor, Tensor]:
    """Return the coordinates (height, 1) and (1, width) of pixels, in pixels from the middle."""
    y, x = (torch.arange(side, **PINNED) - (side - 1) / 2 for side in shape[2:])
    return y[:, None], x[None, :]


def _grating(shape: Shape, g: Generator) -> Tensor:
    """Make a sine wave of 4 to 20 pixels at a random angle and phase, per image and channel."""
    period, angle, phase = (_u((*shape[:2], 1, 1), g) for _ in range(3))
    y, x = _grid(shape)
    along = torch.cos(2 * math.pi * angle) * x + torch.sin(2 * math.pi * angle) * y
    return math.sqrt(2) * torch.sin(2 * math.pi * (along / (4 + 16 * period) + phase))


def _rings(shape: Shape, g: Generator) -> Tensor:
    """Make concentric waves of 4 to 20 pixels around a random point."""
    period, phase, cy, cx = (_u((*shape[:2], 1, 1), g) for _ in range(4))
    y, x = _grid(shape)
    radius = ((y - shape[2] * (cy - 0.5)).square() + (x - shape[3] * (cx - 0.5)).square()).sqrt()
    return math.sqrt(2) * torch.sin(2 * math.pi * (radius / (4 + 16 * period) + phase))


def _random_walk(shape: Shape, g: Generator) -> Tensor:
    """Draw stationary rows in which a pixel is 0.95 times its neighbour, plus noise."""
    steps = torch.randn(shape, generator=g, **PINNED)
    columns = [steps[..., 0]]
    for step in steps.unbind(-1)[1:]:
        columns.append(DRIFT * columns[-1] + math.sqrt(1 - DRIFT**2) * step)
    return torch.stack(columns, dim=-1)


def _text(shape: Shape, g: Generator) -> Tensor:
    """Write a text for each image, words of English without a meaning, a byte for each value, as byte / 127.5 - 1."""
    texts = [english_like(math.prod(shape[1:]), g) for _ in range(shape[0])]
    return torch.frombuffer(bytearray(b"".join(texts)), dtype=torch.uint8).float().view(shape) / 127.5 - 1


def _scaled(shape: Shape, g: Generator, factor: float) -> Tensor:
    """Scale known Gaussian noise by a factor."""
    return factor * of_types(torch.zeros(shape[0], dtype=torch.int64), shape[2:], g, channels=shape[1])


LAWS: dict[str, Law] = {
    "triangular": _triangular,
    "arcsine": _arcsine,
    "logistic": _logistic,
    "gumbel": _gumbel,
    "student": _student,
    "lognormal": _lognormal,
    "rayleigh": _rayleigh,
    "erlang": _erlang,
    "weibull": _weibull,
    "geometric": _geometric,
    "ternary": _ternary,
    "blue": partial(_spectral, exponent=1.0),
    "violet": partial(_spectral, exponent=2.0),
    "grating": _grating,
    "rings": _rings,
    "random-walk": _random_walk,
}
KINDS: dict[str, Law] = {
    **LAWS,
    "text": _text,
    **{f"contrast-{factor:g}": partial(_scaled, factor=factor) for factor in CONTRASTS},
}
NAMES = tuple(KINDS)
