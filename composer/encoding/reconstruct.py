"""Reconstruction: cells run over images, group after group, and what they make of them written as pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from batteries import short_repr
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from batteries.images.framing import Fit, Size
from batteries.images.image_arrays import Layout, Scale
from batteries.images.image_reader import ReadImage, stream
from batteries.images.rescaling import from_input
from batteries.io import atomic_files, canonical_json
from composer.container.container import Container
from composer.encoding.arguments import PNG, checked_batch, picture_place
from composer.encoding.cells import Cells, container_of, recipe
from composer.encoding.encode import BATCH, Progress
from composer.encoding.image_groups import ImageGroup, group_size, in_groups
from composer.encoding.picture_files import Pictured, PictureFolder, picture_of
from composer.encoding.picture_grid import PictureGrid
from composer.encoding.record import EncodedImage


@dataclass(frozen=True)
class ReconstructedImage:
    """An image and what the cells make of it.

    Attributes:
        image: Name and sizes.
        errors: Mean squared error on the cells' input scale, by cell.
        files: Path of each picture, by cell; empty where all are in one picture.
    """

    image: EncodedImage
    errors: dict[str, float]
    files: dict[str, Path]


@dataclass(frozen=True)
class Reconstructed:
    """Pictures that were written.

    Attributes:
        path: Folder, or file of the grid.
        images: Images, in order.
        reused: Number of images whose pictures an earlier run had made.

    >>> import batteries, composer, registry
    >>> images = batteries.probe("photos-64").images[:2]
    >>> made = composer.reconstruct(registry.load("low/fresnel-64"), images, "grid.png", scale="signed")
    >>> [round(image.errors["low/fresnel-64"], 3) < 0.05 for image in made.images]
    [True, True]
    """

    path: Path
    images: tuple[ReconstructedImage, ...]
    reused: int

    def __repr__(self) -> str:
        return short_repr.headed(self, str(self.path), short_repr.counted(len(self.images), "image"))


@neutral()
@torch.no_grad()
def reconstruct(
    cells: Cells,
    source: Any,
    out: str | Path,
    *,
    scale: Scale | None = None,
    fit: Fit | None = None,
    size: int | Size | None = None,
    layout: Layout | None = None,
    batch: int = BATCH,
    fresh: bool = False,
    progress: Progress = lambda done: None,
) -> Reconstructed:
    """Run cells over images, and write their reconstructions: a folder of PNG files, or one PNG with all of them.

    In a folder, each cell has a folder of its own with one picture for every image, ``OUT/CELL/IMAGE.png``. A picture says in
    its metadata what it was made from: a call that is stopped and made again makes only those that are missing or of something
    else. Other files there stay. In one picture, ``OUT.png``, a row is an image: the original first, then a column for each
    cell, with its error; it is in memory as a whole, and made anew by each call.

    The cells' input scale is undone; values are rounded to 8 bits.

    Args:
        cells: Cells one by one, in a list or by name; a container; or a composition, whose cells are run.
        source: Images, as for :func:`batteries.images.load`; they may differ in size.
        out: Folder, or a file that ends in ``.png``.
        scale: Scale of values that are no bytes, as for :func:`batteries.images.load`.
        fit: Framing: ``crop``, ``pad`` or ``resize``, as for :func:`batteries.images.load`.
        size: Side, or height and width, of all images; left out, each keeps its own up to the patch.
        layout: Axes of arrays, as for :func:`batteries.images.load`.
        batch: Most images to run at once; large ones are fewer.
        fresh: True to make every picture anew.
        progress: Called with the number of finished images, after each group.

    Raises:
        InputError: a file in the folder's place (``FOLDER``), a format of pictures other than PNG (``SUFFIX``), cells of
            another number of channels than 1 and 3 (``CHANNELS``), or images that cannot be read or framed.
        NotFoundError: no image (``NO_IMAGES``, ``NO_FILE``).
        PolicyError: a picture of more pixels than can be read again (``TOO_LARGE``).
        StoreError: no space, no permission, a failing disk.
        BatteriesError: cells that do not go together, as :func:`composer.compose`.

    >>> import batteries, composer, registry
    >>> images = batteries.probe("photos-64").images[:2]
    >>> composer.reconstruct(registry.load("low/fresnel-64"), images, "grid.png", scale="signed")
    Reconstructed(grid.png, 2 images)
    """
    path, batch = picture_place(out), checked_batch(batch)
    container = container_of(cells)
    _refuse_channels(container)
    read = stream(source, cell=container, scale=scale, fit=fit, size=size, layout=layout)
    run = _Run(container, path, fresh)
    images = []
    for found in run.images(read, batch):
        images.append(found)
        progress(len(images))
    if run.grid is not None:
        atomic_files.replace(path, run.grid.to_bytes())
    return Reconstructed(path, tuple(images), run.reused)


class _Run:
    """Groups run through a container, each to its pictures.

    Attributes:
        grid: All pictures as one; None where each is a file.
        reused: Images whose pictures were all there already.
    """

    def __init__(self, container: Container, path: Path, fresh: bool) -> None:
        self.grid = PictureGrid(container.names) if path.suffix == PNG else None
        self.reused = 0
        self._folder = PictureFolder(path, container.names)
        self._container = container
        self._fresh = fresh

    def images(self, read: Iterable[ReadImage], batch: int) -> Iterator[ReconstructedImage]:
        """Yield every image as soon as its pictures are there."""
        channels, names = self._container.groups[0].spec.channels, self._container.names
        most = group_size(self._container, batch, lambda sides: len(names) * channels * sides[0] * sides[1])
        for group in in_groups(read, most):
            yield from self._in_grid(group) if self.grid is not None else self._in_folder(group)

    def _in_grid(self, group: ImageGroup) -> Iterator[ReconstructedImage]:
        assert self.grid is not None, "only there"
        recon, errors = self._run(group)
        originals = from_input(group.batch, self._container.scale)
        for place, image in enumerate(group.images):
            by_cell = dict(zip(self._container.names, errors[place], strict=True))
            pictures = [picture_of(one) for one in (originals[place], *recon[place])]
            self.grid.add(image.name, pictures, list(by_cell.values()))
            yield ReconstructedImage(image, by_cell, {})

    def _in_folder(self, group: ImageGroup) -> Iterator[ReconstructedImage]:
        digests = group.digests()
        wanted = [self._wanted(name, digest) for name, digest in zip(group.names, digests, strict=True)]
        there = [[None if self._fresh else one.error() for one in row] for row in wanted]
        if any(error is None for row in there for error in row):
            recon, made = self._run(group)
        for place, (image, row) in enumerate(zip(group.images, wanted, strict=True)):
            known = [error for error in there[place] if error is not None]
            if len(known) == len(row):
                self.reused += 1
            else:
                known = made[place]
                for one, pixels, error in zip(row, recon[place], known, strict=True):
                    one.write(picture_of(pixels), error)
            files = {name: one.path for name, one in zip(self._container.names, row, strict=True)}
            yield ReconstructedImage(image, dict(zip(self._container.names, known, strict=True)), files)

    def _run(self, group: ImageGroup) -> tuple[Tensor, list[list[float]]]:
        """Return reconstructions (B, cells, C, height, width) in [-1, 1], and errors (B, cells)."""
        out = self._container(group.batch.to(self._container.device), ("recon",))
        recon = out.recon.cpu()
        plain = from_input(recon.flatten(0, 1), self._container.scale)
        return plain.unflatten(0, recon.shape[:2]), out.error.cpu().tolist()

    def _wanted(self, name: str, digest: str) -> list[Pictured]:
        """Return the pictures of an image, one for every cell."""
        scale = self._container.scale.model_dump(mode="json")
        recipes = [recipe(self._container, [cell], input=scale) for cell in self._container.names]
        keys = [canonical_json.sha256(one + digest.encode()) for one in recipes]
        return self._folder.pictures(name, keys)


def _refuse_channels(container: Container) -> None:
    channels = container.groups[0].spec.channels
    if channels not in (1, 3):
        raise InputError("channels that make no picture", code="CHANNELS", expected="1 or 3", found=channels)
