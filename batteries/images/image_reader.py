"""The one reader of a user's images: files, folders, globs, Pillow's pictures, arrays and tensors, on the scale of a cell.

One picture is in memory at a time; :func:`load` stacks them. Nothing is guessed: where a scale, an axis or a size has two
readings, an error names them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from batteries.cell.cell import Cell
from batteries.cell.manifest import InputScale, Manifest
from batteries.cell.spec import CellSpec
from batteries.errors import InputError, NotFoundError
from batteries.images.decoding import SUFFIXES, UNREADABLE, open_image, upright
from batteries.images.framing import Fit, Size, checked_fit, checked_size, framed
from batteries.images.image_arrays import Layout, Scale, checked_scale, laid_on_white, pictures_of, refuse_infinite
from batteries.images.rescaling import to_input
from batteries.io import path_patterns, short_repr

UNORDERED = (str, bytes, bytearray, memoryview, set, frozenset, dict)  # iterables that are no list of images
SHOWN = 6  # files in a message
DEEP = 32  # lists in lists: far more than anything is sorted in; one that contains itself ends here
RGB = 3
PLAIN = InputScale()


class ManyCells(Protocol):
    """Cells that take the same images: a container, or a composition over one."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the cells."""
        ...

    @property
    def scale(self) -> InputScale:
        """Their input scale."""
        ...

    def spec(self, name: str) -> CellSpec:
        """Architecture of one cell."""
        ...


@dataclass(frozen=True)
class Form:
    """What images have to be for a cell.

    Attributes:
        channels: Their number.
        patch: Pixels that divide each side.
        scale: The input scale.
    """

    channels: int = RGB
    patch: int = 1
    scale: InputScale = PLAIN


@dataclass(frozen=True, eq=False)
class ReadImage:
    """One picture, as it was read.

    Attributes:
        name: Path of the file, or place in what was given, such as ``images[3]``.
        image: (channels, height, width) float32.
        size: Height and width before it was cropped, padded or resized.
    """

    name: str
    image: Tensor
    size: Size

    __repr__ = short_repr.fields


def load(
    source: Any,
    *,
    cell: Cell | Manifest | CellSpec | ManyCells | None = None,
    scale: Scale | None = None,
    fit: Fit | None = None,
    size: int | Size | None = None,
    layout: Layout | None = None,
) -> Tensor:
    """Read images as one batch that a cell or a container takes.

    Files, Pillow's pictures and arrays of 8 or 16 unsigned bits say their scale; for all others it has to be given. Pictures
    are turned as EXIF says; alpha is laid on white; gray goes into all channels; of an animation the first picture is taken.

    Args:
        source: A path, a folder (with its subfolders), a glob pattern, a Pillow picture, a NumPy array or a tensor of one
            picture or a batch, channels first or last; or a list or another iterable of these. Files of a folder or glob come
            sorted.
        cell: Whose channels, patch and input scale the images are to have: a cell, a manifest, a spec, a model or a container.
            Left out, RGB in [-1, 1].
        scale: Of values that are no bytes: ``unit`` [0, 1], ``byte`` 0..255, ``signed`` [-1, 1], ``noise`` as they are.
        fit: ``crop`` keeps the middle, ``pad`` repeats the edges, ``resize`` scales to cover the size and crops. Left out,
            nothing is changed, and sides that the cell's patch does not divide are an error.
        size: A side, or height and width, of all images; left out, each keeps its own up to the patch.
        layout: ``channels first`` or ``channels last``, for a shape that can be read both ways.

    Returns:
        (B, channels, height, width) float32, contiguous, on the CPU.

    Raises:
        NotFoundError: no such file (``NO_FILE``), or no image in a folder, glob, list or batch (``NO_IMAGES``).
        InputError: a file that is no image (``IMAGE``); a scale that is not said or not kept (``IMAGE_SCALE``); pixels of
            another type (``IMAGE_DTYPE``) or not finite (``NOT_FINITE``); axes or channels that do not fit (``IMAGE_SHAPE``);
            sides that do not (``IMAGE_SIZE``), or not one size (``IMAGE_SIZES``); nothing that can be read (``IMAGES``).

    >>> import numpy
    >>> load(numpy.zeros((32, 48, 3), "uint8")).shape
    torch.Size([1, 3, 32, 48])
    """
    read: list[ReadImage] = []
    for one in stream(source, cell=cell, scale=scale, fit=fit, size=size, layout=layout):
        if read and one.image.shape != read[0].image.shape:
            raise InputError(
                "images of different sizes",
                code="IMAGE_SIZES",
                expected=f"{_sides(read[0])} as {read[0].name}",
                found=_sides(one),
                where=one.name,
                remedy="size=(height, width) with fit='crop', 'pad' or 'resize' brings them to one.",
            )
        read.append(one)
    return torch.stack([one.image for one in read])


def stream(
    source: Any,
    *,
    cell: Cell | Manifest | CellSpec | ManyCells | None = None,
    scale: Scale | None = None,
    fit: Fit | None = None,
    size: int | Size | None = None,
    layout: Layout | None = None,
) -> Iterator[ReadImage]:
    """As :func:`load`, one picture after the other, of any sizes, with the name and the first size of each.

    Raises:
        BatteriesError: as :func:`load`; what can be told without reading is told at the call, the rest as it is met.
    """
    checked_scale(scale)
    checked_fit(fit)
    form = form_of(cell)
    wanted = checked_size(size, form.patch)
    found = _found(source, "images")
    first = next(found, None)
    if first is None:
        raise NotFoundError("no image to read", code="NO_IMAGES", expected="at least one", found="none", where="images")

    def read() -> Iterator[ReadImage]:
        for name, one in _chained(first, found):
            for place, picture in enumerate(_pictures(one, scale, layout, form, name)):
                own = f"{name}[{place}]" if isinstance(one, np.ndarray | Tensor) and one.ndim == 4 else name
                fitted = framed(_in_channels(picture, form.channels, own), form.patch, wanted, fit, own)
                image = to_input(fitted[None], form.scale)[0] if cell is not None else fitted
                refuse_infinite(image, own)  # a scale of a small deviation makes large noise larger
                yield ReadImage(own, image.contiguous(), (picture.shape[1], picture.shape[2]))

    return read()


def form_of(cell: Any) -> Form:
    """What a cell, or all cells of a container, take.

    Raises:
        InputError: none of them (``CELL``).
    """
    if cell is None:
        return Form()
    if isinstance(cell, Cell):
        return Form(cell.spec.channels, cell.spec.patch_size, cell.manifest.identity.input)
    if isinstance(cell, Manifest):
        return Form(cell.spec.channels, cell.spec.patch_size, cell.identity.input)
    if isinstance(cell, CellSpec):
        return Form(cell.channels, cell.patch_size, InputScale(mean=(0.0,) * cell.channels, std=(1.0,) * cell.channels))
    many = getattr(cell, "container", cell)
    if isinstance(getattr(many, "scale", None), InputScale):
        specs = [cell.spec] if isinstance(getattr(cell, "spec", None), CellSpec) else [many.spec(name) for name in many.names]
        return Form(specs[0].channels, math.lcm(*(spec.patch_size for spec in specs)), many.scale)
    remedy = "registry.load('band/name') gives a cell."
    expected = "a cell, a manifest, a spec, a model or a container"
    raise InputError("no cell to read images for", code="CELL", expected=expected, found=repr(cell)[:60], remedy=remedy)


def _chained(first: tuple[str, Any], rest: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    yield first
    yield from rest


def _found(source: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Name and thing of every file, picture and array of a source, in order."""
    if isinstance(source, str | os.PathLike) and (place := os.fsdecode(source)):
        for path in _files(Path(place).expanduser()):
            yield str(path), path
    elif isinstance(source, Image.Image | np.ndarray | Tensor):
        yield name, source
    elif hasattr(source, "read"):
        raise _nothing(repr(source)[:60], name, "A file object: its path, or PIL.Image.open(file).")
    elif isinstance(source, Iterable) and not isinstance(source, (*UNORDERED, os.PathLike)):
        if depth == DEEP:
            raise _nothing(f"more than {DEEP} lists in each other", name, "A list that contains itself has no end.")
        for number, one in enumerate(source):
            yield from _found(one, f"{name}[{number}]", depth + 1)
    else:
        remedy = "Bytes of a file: PIL.Image.open(io.BytesIO(data)). A probe: its .images."
        raise _nothing(repr(source)[:60], name, remedy)


def _nothing(found: str, where: str, remedy: str) -> InputError:
    what = "nothing that can be read as images"
    expected = "a path, a folder, a glob, a Pillow picture, an array, a tensor, or a list of these"
    return InputError(what, code="IMAGES", expected=expected, found=found, where=where, remedy=remedy)


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        found = [path for path in path_patterns.below(place) if not path.name.startswith(".")]
        _refuse_others(place, [path for path in found if path.suffix.lower() not in SUFFIXES])
    elif place.is_file():
        return [place]
    elif path_patterns.is_pattern(place):
        _, found = path_patterns.matching(place)
    else:
        raise NotFoundError("no such file", code="NO_FILE", expected="a file, a folder or a glob pattern", where=place)
    if not found:
        expected = f"at least one of {' '.join(sorted(SUFFIXES))}"
        raise NotFoundError("no image to read", code="NO_IMAGES", expected=expected, found="none", where=place)
    return found


def _refuse_others(folder: Path, others: list[Path]) -> None:
    if others:
        shown = ", ".join(str(path.relative_to(folder)) for path in others[:SHOWN])
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        remedy = f"A glob picks the images: {folder / '*.png'}."
        raise InputError("files that are no images", code="IMAGE", found=shown + more, where=folder, remedy=remedy)


def _pictures(one: Any, scale: Scale | None, layout: Layout | None, form: Form, name: str) -> Iterator[Tensor]:
    """Pictures (C, height, width) of one file, picture, array or tensor, in [-1, 1]; noise as it is."""
    if isinstance(one, Path | Image.Image):
        one, layout = np.asarray(open_image(one) if isinstance(one, Path) else _upright(one, name)), "channels last"
    for picture in pictures_of(one, scale, layout, form.channels, name):
        has_alpha = picture.shape[0] in (2, 4) and picture.shape[0] != form.channels
        if has_alpha and scale == "noise":
            raise _other_channels(picture, form.channels, name)
        yield laid_on_white(picture) if has_alpha else picture


def _upright(picture: Image.Image, name: str) -> Image.Image:
    try:
        return upright(picture)
    except UNREADABLE as error:
        raise InputError("not a readable image", code="IMAGE", found=error, where=name) from error


def _in_channels(picture: Tensor, channels: int, name: str) -> Tensor:
    if picture.shape[0] == 1:
        return picture.expand(channels, -1, -1)
    if picture.shape[0] != channels:
        raise _other_channels(picture, channels, name)
    return picture


def _other_channels(picture: Tensor, channels: int, name: str) -> InputError:
    remedy = "Pillow: picture.convert('L'). Tensors: images.mean(dim=1, keepdim=True)." if channels == 1 else None
    found = f"{picture.shape[0]} channels"
    what = "image of other channels than the cell's"
    return InputError(what, code="IMAGE_SHAPE", expected=f"{channels} channels", found=found, where=name, remedy=remedy)


def _sides(one: ReadImage) -> str:
    return f"{one.image.shape[1]} x {one.image.shape[2]}"
