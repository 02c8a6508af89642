"""Input scales of cells trained on images of another scale than this package's. Does not import torch.

This package has photographs x in [-1, 1] and noise as generated. A network trained elsewhere may have seen (u - mean) / std of
images u in [0, 1]; with u = (x + 1) / 2 that is (x - (2 mean - 1)) / (2 std).
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from batteries.cell.manifest import InputScale
from batteries.errors import InputError
from batteries.io.canonical_json import fields_of

CHANNELS = 3


def of_unit_images(mean: Sequence[float], std: Sequence[float]) -> InputScale:
    """Return the input scale of a network trained on (u - mean) / std of images u in [0, 1].

    >>> of_unit_images((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)) == InputScale()
    True
    """
    return InputScale(mean=tuple(2 * value - 1 for value in mean), std=tuple(2 * value for value in std))


IMAGENET = of_unit_images((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NAMED = {"plain": InputScale(), "imagenet": IMAGENET}


def of_text(text: str, *, where: object) -> InputScale:
    """Parse ``plain``, ``imagenet``, or MEAN/STD with which images in [0, 1] were normalised.

    Args:
        text: Name of a scale, or one number each or one a channel, such as ``0.5/0.5``.
        where: Name of the option in messages.

    Raises:
        InputError: none of these, or numbers that are no scale (``USAGE``).
    """
    if text in NAMED:
        return NAMED[text]
    try:
        mean, std = ([float(number) for number in part.split(",")] for part in text.split("/"))
        if not {len(mean), len(std)} <= {1, CHANNELS}:
            raise ValueError(f"{len(mean)} and {len(std)} numbers")
        return of_unit_images(mean * (CHANNELS // len(mean)), std * (CHANNELS // len(std)))
    except ValueError as error:  # pydantic's errors are ValueErrors
        found = f"{text!r} ({fields_of(error) if isinstance(error, ValidationError) else error})"
        expected = "plain, imagenet, or MEAN/STD such as 0.5/0.5 or 0.485,0.456,0.406/0.229,0.224,0.225"
        raise InputError("invalid input scale", code="USAGE", expected=expected, found=found, where=where) from error
