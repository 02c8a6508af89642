"""Tasks for hosts: classify the noise type, classify the photograph of a crop, and denoise photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from batteries import short_repr
from batteries.cell.cell import Cell
from batteries.cell.manifest import InputScale, NoiseMix
from batteries.data.photos import to_float, to_tensor
from batteries.data.probes import photographs
from batteries.engine.torch_settings import PINNED
from batteries.errors import InputError
from batteries.images.decoding import read_image
from batteries.noise import of_types

NAME_NOISE = "name the noise type"
NAME_PHOTO = "name the photograph"
DENOISE = "denoise"


@dataclass(frozen=True, eq=False)
class Task:
    """Images and targets for a host, in two disjoint parts.

    Attributes:
        name: Name of the task.
        train: Training images (B, channels, height, width), and targets: class labels (B,), or images of the same shape.
        test: Test images and targets of the same form.
        cluster: Clusters (B,) of test images for standard errors; None for one image per cluster.
        decides: Whether the verdict depends on the task.
        shown: Photographs of the probes that the training images show.

    Raises:
        InputError: images without a target each (``TASK_IMAGES``); fewer than two classes, or a test class that is missing in
            training (``TASK_CLASSES``).

    >>> import composer
    >>> from batteries import noise
    >>> train, test = (noise.random_batch(32, (64, 64), seed, types=(0, 1)) for seed in (0, 1))
    >>> task = composer.hosts.Task("uniform or Gaussian", train, test)  # for composer.adapt and registry.validate
    >>> task.classes, task.restores
    (2, False)
    """

    name: str
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    cluster: Tensor | None = None
    decides: bool = True
    shown: tuple[str, ...] = ()

    __repr__ = short_repr.fields

    def __post_init__(self) -> None:
        for part, (images, targets) in (("train", self.train), ("test", self.test)):
            if images.ndim != 4 or not len(images) or len(images) != len(targets):
                found = f"{tuple(images.shape)} and {tuple(targets.shape)}"
                raise InputError("images and targets do not match", code="TASK_IMAGES", found=found, where=part)
        if self.restores:
            return
        learned, judged = (set(targets.tolist()) for _, targets in (self.train, self.test))
        if len(learned) < 2 or not judged <= learned or min(learned) < 0:
            raise InputError(
                "too few classes",
                code="TASK_CLASSES",
                expected="two classes or more, labelled from 0, all of them in the training part",
                found=f"{sorted(learned)[:20]} in training, {sorted(judged)[:20]} in the test",
                where=self.name,
            )

    @property
    def restores(self) -> bool:
        """True if the targets are images."""
        return self.train[1].is_floating_point()

    @property
    def classes(self) -> int:
        """Number of classes; 0 if images are to be restored."""
        return 0 if self.restores else int(self.train[1].max()) + 1


class Parts(NamedTuple):
    """Two disjoint parts of labelled images: images (B, channels, height, width), and labels (B,).

    ``shown`` names the photographs of the probes in the first part.
    """

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    shown: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskSize:
    """Numbers of a task's images.

    Attributes:
        size: Side of the images, in pixels.
        train: Training images.
        test: Test images of noise.
        crops: Test crops of photographs; fewer than ``test``, since crops of one photograph are alike.
        sigma: Standard deviation of the Gaussian noise to be removed from photographs.

    >>> from composer import hosts
    >>> hosts.TaskSize(train=64)
    TaskSize(size=64, train=64, test=320, crops=160, sigma=0.25)
    """

    size: int = 64
    train: int = 512
    test: int = 320
    crops: int = 160
    sigma: float = 0.25


def naming_noise(kinds: Sequence[int], mix: NoiseMix, numbers: TaskSize, seed: int) -> Task:
    """Make the task of naming the noise type, with equally many images per type.

    Args:
        kinds: Indices of the types in :data:`batteries.noise.NAMES`.
        mix: Mix of the noise.
        numbers: Numbers of the images.
        seed: Seed of the images.
    """
    train, test, _ = noise_parts(kinds, mix, numbers, seed)
    return Task(NAME_NOISE, train, test)


def noise_parts(kinds: Sequence[int], mix: NoiseMix, numbers: TaskSize, seed: int) -> Parts:
    """Generate labelled noise, as :func:`naming_noise`."""
    parts = []
    for part, count in enumerate((numbers.train, numbers.test)):
        labels = torch.arange(len(kinds)).repeat_interleave(max(1, count // len(kinds)))
        size, generator = (numbers.size, numbers.size), Generator().manual_seed(seed + part)
        parts.append((of_types(torch.tensor(kinds)[labels], size, generator, mix=mix), labels))
    train, test = parts
    return Parts(train, test)


def photo_parts(numbers: TaskSize, seed: int) -> Parts:
    """Cut labelled crops of the photographs that ship: their left halves for training, their right halves for the test."""
    pictures = [to_tensor(read_image(path)) for path in photographs()]
    left, right = ([half(p, side) for p in pictures] for side in (0, 1))
    clean, labels = crops(left, numbers.size, max(1, numbers.train // len(pictures)), seed)
    held_out, truth = crops(right, numbers.size, max(1, numbers.crops // len(pictures)), seed + 1)
    return Parts((clean, labels), (held_out, truth), tuple(path.stem for path in photographs()))


def naming_photos(parts: Parts) -> Task:
    """Make the task of naming the photograph of a crop; hosts of untrained cells do it as well, so that it does not decide."""
    return Task(NAME_PHOTO, parts.train, parts.test, cluster=parts.test[1], decides=False, shown=parts.shown)


def denoising(parts: Parts, sigma: float, seed: int) -> Task:
    """Make the task of removing Gaussian noise from crops.

    Args:
        parts: Clean crops with their labels, which are the clusters of the test.
        sigma: Standard deviation of the noise.
        seed: Seed of the noise.
    """
    (clean, _), (held_out, truth), shown = parts
    noisy, held_out_noisy = (x + sigma * _gaussian(x, seed + part) for part, x in enumerate((clean, held_out)))
    return Task(DENOISE, (noisy, clean), (held_out_noisy, held_out), cluster=truth, shown=shown)


def refuse_unfit(cell: Cell, tasks: Sequence[Task]) -> None:
    """Refuse a cell that needs other channels, another input scale or other sizes than the tasks' images.

    Raises:
        InputError: other channels or input scale (``CELL_INPUT``), or sides that are no multiples of the patch size
            (``IMAGE_SIZE``).
    """
    for task in tasks:
        channels = task.train[0].shape[1]
        if cell.spec.channels != channels or cell.manifest.identity.input != InputScale():
            raise InputError(
                "cell does not fit the task's images",
                code="CELL_INPUT",
                expected=f"{channels} channels, mean 0 and standard deviation 1 of the plain scale",
                found=f"{cell.spec.channels} channels, {cell.manifest.identity.input}",
                where=f"{cell.name}: {task.name}",
            )
        for images in (task.train[0], task.test[0]):
            cell.spec.grid(images.shape[2], images.shape[3])


def half(picture: Tensor, side: int) -> Tensor:
    """Return the left half (side 0) or the right half (side 1) of a picture (channels, height, width)."""
    middle = picture.shape[2] // 2
    return picture[:, :, middle:] if side else picture[:, :, :middle]


def crops(pictures: Sequence[Tensor], size: int, each: int, seed: int) -> tuple[Tensor, Tensor]:
    """Cut equally many random crops of every picture (channels, height, width); return them with the pictures' indices."""
    rng = np.random.default_rng(seed)
    found = []
    for picture in pictures:
        for _ in range(each):
            top = int(rng.integers(picture.shape[1] - size + 1))
            left = int(rng.integers(picture.shape[2] - size + 1))
            found.append(picture[:, top : top + size, left : left + size])
    return to_float(torch.stack(found)), torch.arange(len(pictures)).repeat_interleave(each)


def _gaussian(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, generator=Generator().manual_seed(seed), **PINNED)
