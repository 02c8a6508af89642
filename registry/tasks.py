"""What a host is asked to learn: to name the noise type, or the photograph a crop comes from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from batteries.manifest import Domain
from batteries.noise import NAMES, noise
from batteries.photos import read_image, to_float, to_tensor
from batteries.probes import photographs


@dataclass(frozen=True)
class Task:
    """Images with labels, in two disjoint parts.

    Attributes:
        name: In words.
        classes: How many.
        train: Images (B, 3, size, size) and labels (B,).
        test: The same, never trained on.
    """

    name: str
    classes: int
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def own_task(domain: Domain, size: int, train: int, test: int, seed: int) -> Task:
    """The task of a cell's own domain; about ``train`` and ``test`` images, in equal number for every class."""
    if domain == "noise":
        parts = [_noise(size, max(1, count // len(NAMES)), seed + part) for part, count in enumerate((train, test))]
        return Task("name the noise type", len(NAMES), parts[0], parts[1])
    pictures = [to_tensor(read_image(path)) for path in photographs()]
    halves = [(p[:, :, : p.shape[2] // 2], p[:, :, p.shape[2] // 2 :]) for p in pictures]
    learn = _crops([left for left, _ in halves], size, max(1, train // len(pictures)), seed)
    judge = _crops([right for _, right in halves], size, max(1, test // len(pictures)), seed + 1)
    return Task("name the photograph a crop comes from (left halves learned, right halves judged)", len(pictures), learn, judge)


def _noise(size: int, each: int, seed: int) -> tuple[Tensor, Tensor]:
    labels = torch.arange(len(NAMES)).repeat_interleave(each)
    return noise(labels, (size, size), Generator().manual_seed(seed)), labels


def _crops(pictures: list[Tensor], size: int, each: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    crops = []
    for picture in pictures:
        for _ in range(each):
            top = int(rng.integers(picture.shape[1] - size + 1))
            left = int(rng.integers(picture.shape[2] - size + 1))
            crops.append(picture[:, top : top + size, left : left + size])
    return to_float(torch.stack(crops)), torch.arange(len(pictures)).repeat_interleave(each)
