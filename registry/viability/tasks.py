"""Tasks for hosts: classify the noise type, classify the photograph of a crop, and denoise photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from batteries import short_repr
from batteries.cell.manifest import NoiseMix
from batteries.data.photos import to_float, to_tensor
from batteries.data.probes import Probe, photographs
from batteries.data.sources import NoiseSource
from batteries.engine.torch_settings import PINNED, neutral
from batteries.errors import InputError
from batteries.images.decoding import read_image
from batteries.noise import NAMES, of_types
from registry.checks.protocol import ViabilityProtocol

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

    Raises:
        InputError: images without a target each (``TASK_IMAGES``); fewer than two classes, or a test class that is missing in
            training (``TASK_CLASSES``).

    >>> import registry
    >>> from batteries import noise
    >>> train, test = (noise.random_batch(32, (64, 64), seed, types=(0, 1)) for seed in (0, 1))
    >>> task = registry.Task("uniform or Gaussian", train, test)  # for registry.validate(..., task=task)
    >>> task.classes, task.restores
    (2, False)
    """

    name: str
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    cluster: Tensor | None = None
    decides: bool = True

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
    """Two disjoint parts of labelled images: images (B, channels, height, width), and labels (B,)."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@lru_cache(maxsize=4)
@neutral()
def own_tasks(own: Probe, protocol: ViabilityProtocol, seed: int) -> tuple[Task, ...]:
    """Return the tasks of a cell's domain, with equally many images per class.

    Hosts of a cell of noise name the types of its own probe. A single type leaves nothing to name: they then name all 16 of its
    mix (docs/decisions/0039-noise-types.md), and :func:`own_images` has images of that type.

    Classifying photographs does not decide: hosts of untrained cells do it as well
    (docs/decisions/0009-viability-profiles.md).

    Args:
        own: Own probe of the cell, whose domain and noise mix the images have.
        protocol: Numbers of the test.
        seed: Seed of the images.
    """
    size = protocol.size
    if own.domain == "noise":
        named = NoiseSource.of_probe(own).types if len(own.groups) > 1 else range(len(NAMES))
        return (Task(NAME_NOISE, *_noise(named, own.noise_mix, protocol, seed)),)
    pictures = [to_tensor(read_image(path)) for path in photographs()]
    left, right = ([_half(p, side) for p in pictures] for side in (0, 1))  # left half for training, right half for the test
    clean, labels = _crops(left, size, max(1, protocol.train // len(pictures)), seed)
    held_out, truth = _crops(right, size, max(1, protocol.crops // len(pictures)), seed + 1)
    noisy, held_out_noisy = (x + protocol.sigma * _gaussian(x, seed + part) for part, x in enumerate((clean, held_out)))
    naming = Task(NAME_PHOTO, (clean, labels), (held_out, truth), cluster=truth, decides=False)
    return Task(DENOISE, (noisy, clean), (held_out_noisy, held_out), cluster=truth), naming


@lru_cache(maxsize=4)
@neutral()
def own_images(own: Probe, protocol: ViabilityProtocol, seed: int) -> Parts:
    """Return clean images of a cell's own domain with their labels: those that a task names, or of the single type of a cell.

    Args:
        own: Own probe of the cell.
        protocol: Numbers of the test.
        seed: Seed of the images.
    """
    if own.domain == "noise" and len(own.groups) == 1:
        return _noise(NoiseSource.of_probe(own).types, own.noise_mix, protocol, seed)
    naming = own_tasks(own, protocol, seed)[-1]
    return Parts(naming.train, naming.test)


def _noise(kinds: Sequence[int], mix: NoiseMix, protocol: ViabilityProtocol, seed: int) -> Parts:
    parts = []
    for part, count in enumerate((protocol.train, protocol.test)):
        labels = torch.arange(len(kinds)).repeat_interleave(max(1, count // len(kinds)))
        size, generator = (protocol.size, protocol.size), Generator().manual_seed(seed + part)
        parts.append((of_types(torch.tensor(kinds)[labels], size, generator, mix=mix), labels))
    return Parts(*parts)


def _half(picture: Tensor, side: int) -> Tensor:
    middle = picture.shape[2] // 2
    return picture[:, :, middle:] if side else picture[:, :, :middle]


def _crops(pictures: list[Tensor], size: int, each: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    crops = []
    for picture in pictures:
        for _ in range(each):
            top = int(rng.integers(picture.shape[1] - size + 1))
            left = int(rng.integers(picture.shape[2] - size + 1))
            crops.append(picture[:, top : top + size, left : left + size])
    return to_float(torch.stack(crops)), torch.arange(len(pictures)).repeat_interleave(each)


def _gaussian(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, generator=Generator().manual_seed(seed), **PINNED)
