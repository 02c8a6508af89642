"""Own domain of a cell in an adaptation: images to reconstruct, and held-out images to measure its content on; and tasks.

Noise is generated. Photographs are the user's, or else the left halves of those of the probes, whose right halves are held out:
a manifest then lists them as shown in training, since errors on the probes are no longer errors on unseen images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from batteries import short_repr
from batteries.cell.cell import Cell
from batteries.cell.manifest import DataSource
from batteries.data.photos import to_float, to_tensor
from batteries.data.probes import photographs, probe
from batteries.data.sources import NoiseSource, PhotoSource, Source, seed_of
from batteries.engine.threads import threads
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from batteries.images.decoding import read_image
from batteries.io import canonical_json
from batteries.noise import NAMES
from composer.hosts import tasks
from composer.hosts.tasks import Parts, Task, TaskSize

HELD_SEED = 2_000_003  # of the held-out crops, which are the same in every adaptation
HELD_CROPS = 6  # of each photograph, as in photos-64
OWN_TYPES = range(len(NAMES))
NUMBERS = TaskSize(train=2400)  # with the 512 of a frozen trial, a cell that learns too learns the images by heart


@dataclass(frozen=True, eq=False)
class OwnDomain:
    """Images of a cell's own domain.

    Attributes:
        source: Training images of the terms.
        images: Held-out images (B, channels, height, width) that content is measured on.
        cluster: Cluster (B,) of each held-out image, for standard errors.
        words: Description of the held-out images.

    >>> import composer, registry
    >>> domain = composer.adaptation.own_domain(registry.load("high/johanna-64"))
    >>> domain.words, domain.images.shape
    ('noise16-64', torch.Size([256, 3, 64, 64]))
    """

    source: Source
    images: Tensor
    cluster: Tensor
    words: str

    __repr__ = short_repr.fields


class ShippedPhotographs:
    """Crops of the left halves of the photographs that ship with this package."""

    @cached_property
    def pictures(self) -> list[Tensor]:
        """Left halves (3, height, width), uint8."""
        return [tasks.half(to_tensor(read_image(path)), 0) for path in photographs()]

    def batch(self, seed: int, count: int, size: int) -> Tensor:
        """Cut crops (count, 3, size, size) in [-1, 1], flipped at random."""
        rng = np.random.default_rng(seed)
        found = []
        for _ in range(count):
            picture = self.pictures[int(rng.integers(len(self.pictures)))]
            top, left = (int(rng.integers(side - size + 1)) for side in picture.shape[1:])
            crop = picture[:, top : top + size, left : left + size]
            found.append(crop.flip(2) if rng.integers(2) else crop)
        return to_float(torch.stack(found))

    @property
    def facts(self) -> DataSource:
        """Names and digest of the photographs, all of which are those of the probes."""
        digests = {path.stem: canonical_json.sha256(path.read_bytes()) for path in photographs()}
        return DataSource(
            kind="photos",
            description=f"left halves of the photographs of the probes: {', '.join(digests)}",
            digest=canonical_json.sha256(canonical_json.dump({"half": "left", "photographs": digests})),
            images=len(digests),
            license="CC0-1.0 AND CC-BY-4.0 AND public domain",
            source="batteries/photographs",
            probe_photographs=tuple(digests),
        )

    @property
    def domain(self) -> Source:
        """This source, whole."""
        return self


@neutral()
def own_domain(cell: Cell, photos: PhotoSource | None = None) -> OwnDomain:
    """Return the own domain of a cell.

    Args:
        cell: Cell to be adapted.
        photos: Photographs for a cell of photographs; by default those that ship.

    Raises:
        InputError: photographs for a cell of noise (``DOMAIN``).

    >>> import composer, registry
    >>> composer.adaptation.own_domain(registry.load("low/fresnel-64")).words
    'right halves of the photographs of the probes'
    """
    own = probe(cell.manifest.own_probe)
    if own.domain == "noise":
        if photos is not None:
            raise InputError("photographs for a cell of noise", code="DOMAIN", expected=own.name, where=cell.name)
        return OwnDomain(NoiseSource.of_probe(own), own.images, own.cluster, own.name)
    if photos is not None:
        return OwnDomain(photos, own.images, own.cluster, own.name)
    right = [tasks.half(to_tensor(read_image(path)), 1) for path in photographs()]
    images, cluster = tasks.crops(right, 64, HELD_CROPS, HELD_SEED)
    return OwnDomain(ShippedPhotographs(), images, cluster, "right halves of the photographs of the probes")


@neutral()
def naming(seed: int = 0, numbers: TaskSize | None = None) -> Task:
    """Return the task of naming the 16 noise types.

    >>> import composer
    >>> composer.adaptation.naming().classes
    16
    """
    with threads(1):  # a spread over the pixels of an image is a sum that depends on them
        return tasks.naming_noise(OWN_TYPES, "batteries", numbers or NUMBERS, seed)


@neutral()
def denoising(seed: int = 0, numbers: TaskSize | None = None, photos: PhotoSource | None = None) -> Task:
    """Return the task of removing Gaussian noise from crops of photographs.

    Args:
        seed: Seed of crops and noise.
        numbers: Numbers of the images.
        photos: Photographs to learn from; by default the left halves of those that ship. The test is on their right halves.

    >>> import composer
    >>> composer.adaptation.denoising().restores
    True
    """
    numbers = numbers or NUMBERS
    parts = tasks.photo_parts(numbers, seed)
    if photos is not None:
        clean = photos.batch(seed_of(seed, 0), len(parts.train[0]), numbers.size)
        parts = Parts((clean, torch.zeros(len(clean), dtype=torch.int64)), parts.test)
    return tasks.denoising(parts, numbers.sigma, seed)
