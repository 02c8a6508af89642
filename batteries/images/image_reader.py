"""Reading of images from files, folders, globs, Pillow images, arrays and tensors, on the scale of a cell.

One picture is in memory at a time; :func:`load` stacks them. Nothing is guessed: an ambiguous scale, axis or size is an error
that names the choices.
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

from batteries import short_repr
from batteries.cell.cell import Cell
from batteries.cell.manifest import InputScale, Manifest
from batteries.cell.spec import CellSpec
from batteries.errors import InputError, NotFoundError
from batteries.images.decoding import UNREADABLE, open_image, upright
from batteries.images.framing import Fit, Size, checked_fit, checked_size, framed
from batteries.images.image_arrays import Layout, Scale, checked_scale, laid_on_white, pictures_of, refuse_infinite
from batteries.images.image_files import files
from batteries.images.rescaling import to_input

UNORDERED = (str, bytes, bytearray, memoryview, set, frozenset, dict)  # iterables that are not lists of images
DEEP = 32  # nested lists; a list that contains itself ends here
RGB = 3
PLAIN = InputScale()


class ManyCells(Protocol):
    """Cells with a common input: a container, or a composition over one."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the cells."""
        ...

    @property
    def scale(self) -> InputScale:
        """Input scale of the cells."""
        ...

    def spec(self, name: str) -> CellSpec:
        """Return the architecture of one cell."""
        ...


@dataclass(frozen=True)
class Form:
    """Requirements of a cell on its images.

    Attributes:
        channels: Number of channels.
        patch: Divisor of each side, in pixels.
        scale: Input scale.
    """

    channels: int = RGB
    patch: int = 1
    scale: InputScale = PLAIN


@dataclass(frozen=True, eq=False)
class ReadImage:
    """Picture that was read.

    Attributes:
        name: Path of the file, or place in the argument, such as ``images[3]``.
        image: Pixels (channels, height, width), float32.
        size: Height and width before cropping, padding or resizing.

    >>> import numpy
    >>> from batteries import images
    >>> read = next(images.stream(numpy.zeros((40, 50, 3), "uint8"), fit="crop", size=32))
    >>> read.image.shape, read.size
    (torch.Size([3, 32, 32]), (40, 50))
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
    """Read images into a batch for a cell or a container.

    Files, Pillow images and arrays of 8 or 16 unsigned bits imply their scale; all others need it as an argument. Pictures are
    rotated by their EXIF orientation; alpha is composited on white; gray is copied to all channels; only the first frame of an
    animation is read.

    Args:
        source: Path, folder (with its subfolders), glob pattern, Pillow image, NumPy array or tensor of one picture or a batch,
            channels first or last; or a list or another iterable of these. Files of a folder or glob are sorted.
        cell: Cell, manifest, spec, model or container that sets channels, patch and input scale of the images; by default RGB
            in [-1, 1].
        scale: Scale of values other than bytes: ``unit`` [0, 1], ``byte`` 0..255, ``signed`` [-1, 1], ``noise`` unchanged.
        fit: Way to change sizes: ``crop`` keeps the middle, ``pad`` repeats the edges, ``resize`` scales to cover the size and
            crops. By default sizes are kept, and sides that are not multiples of the cell's patch size are an error.
        size: Side, or height and width, of all images; by default the size of each, up to multiples of the patch size.
        layout: Place of the channels, ``channels first`` or ``channels last``, for an ambiguous shape.

    Returns:
        Images (B, channels, height, width), float32, contiguous, on the CPU.

    Raises:
        NotFoundError: missing file (``NO_FILE``), or no image in a folder, glob, list or batch (``NO_IMAGES``).
        InputError: file that is not an image (``IMAGE``); scale missing or violated (``IMAGE_SCALE``); unsupported dtype
            (``IMAGE_DTYPE``); pixels not finite (``NOT_FINITE``); axes or channels that do not fit (``IMAGE_SHAPE``); sides
            that do not fit (``IMAGE_SIZE``) or differ (``IMAGE_SIZES``); nothing readable (``IMAGES``).

    >>> import numpy
    >>> from batteries import images
    >>> images.load(numpy.zeros((32, 48, 3), "uint8")).shape
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
                remedy="size=(height, width) with fit='crop', 'pad' or 'resize' makes them equal.",
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
    """Read images as :func:`load` does, one at a time and of any sizes, with the name and original size of each.

    Raises:
        BatteriesError: any error of :func:`load`; errors in the arguments at the call, others during iteration.

    >>> import numpy
    >>> from batteries import images
    >>> arrays = [numpy.zeros((32, 48, 3), "uint8"), numpy.zeros((64, 64, 3), "uint8")]
    >>> for read in images.stream(arrays):
    ...     print(read.name, read.size)
    images[0] (32, 48)
    images[1] (64, 64)
    """
    checked_scale(scale)
    checked_fit(fit)
    form = form_of(cell)
    wanted = checked_size(size, form.patch)
    found = _found(source, "images")
    first = next(found, None)
    if first is None:
        raise NotFoundError("no images", code="NO_IMAGES", expected="at least one", found="none", where="images")

    def read() -> Iterator[ReadImage]:
        for name, one in _chained(first, found):
            for place, picture in enumerate(_pictures(one, scale, layout, form, name)):
                own = f"{name}[{place}]" if isinstance(one, np.ndarray | Tensor) and one.ndim == 4 else name
                fitted = framed(_in_channels(picture, form.channels, own), form.patch, wanted, fit, own)
                image = to_input(fitted[None], form.scale)[0] if cell is not None else fitted
                refuse_infinite(image, own)  # a small deviation of the scale enlarges values
                yield ReadImage(own, image.contiguous(), (picture.shape[1], picture.shape[2]))

    return read()


def form_of(cell: Any) -> Form:
    """Return the requirements of a cell, or of all cells of a container, on images.

    Raises:
        InputError: neither a cell nor a container (``CELL``).
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
    raise InputError("not a cell", code="CELL", expected=expected, found=repr(cell)[:60], remedy=remedy)


def _chained(first: tuple[str, Any], rest: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    yield first
    yield from rest


def _found(source: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield every file, picture and array of a source with its name, in order."""
    if isinstance(source, str | os.PathLike) and (place := os.fsdecode(source)):
        for path in files(Path(place).expanduser()):
            yield str(path), path
    elif isinstance(source, Image.Image | np.ndarray | Tensor):
        yield name, source
    elif hasattr(source, "read"):
        raise _nothing(repr(source)[:60], name, "Instead of a file object, give its path, or PIL.Image.open(file).")
    elif isinstance(source, Iterable) and not isinstance(source, (*UNORDERED, os.PathLike)):
        if depth == DEEP:
            raise _nothing(f"more than {DEEP} nested lists", name, "Check that no list contains itself.")
        for number, one in enumerate(source):
            yield from _found(one, f"{name}[{number}]", depth + 1)
    else:
        remedy = "For bytes of a file: PIL.Image.open(io.BytesIO(data)). For a probe: its .images."
        raise _nothing(repr(source)[:60], name, remedy)


def _nothing(found: str, where: str, remedy: str) -> InputError:
    what = "not readable as images"
    expected = "a path, a folder, a glob, a Pillow picture, an array, a tensor, or a list of these"
    return InputError(what, code="IMAGES", expected=expected, found=found, where=where, remedy=remedy)


def _pictures(one: Any, scale: Scale | None, layout: Layout | None, form: Form, name: str) -> Iterator[Tensor]:
    """Yield the pictures (C, height, width) of one file, picture, array or tensor, in [-1, 1]; noise is not rescaled."""
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
    what = "wrong number of channels"
    return InputError(what, code="IMAGE_SHAPE", expected=f"{channels} channels", found=found, where=name, remedy=remedy)


def _sides(one: ReadImage) -> str:
    return f"{one.image.shape[1]} x {one.image.shape[2]}"
