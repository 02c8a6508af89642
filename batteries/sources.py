"""Where a training batch comes from: batch k of a run depends on the run's seed and k alone, so that a run can resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from batteries import canonical
from batteries.manifest import DataSource
from batteries.noise import NAMES, noise_batch
from batteries.photos import Photos


class Source(Protocol):
    """Something that gives training images and can say what they are."""

    def batch(self, seed: int, count: int, size: int) -> Tensor:
        """(count, channels, size, size), the same for the same seed."""
        ...

    @property
    def facts(self) -> DataSource:
        """What a manifest says of the data."""
        ...


@dataclass(frozen=True)
class NoiseSource:
    """The 16 noise types, or some of them, in equal chance.

    Attributes:
        types: Indices into :data:`batteries.noise.NAMES`.
    """

    types: tuple[int, ...] = tuple(range(len(NAMES)))

    def batch(self, seed: int, count: int, size: int) -> Tensor:
        """(count, 3, size, size) in [-4, 4]."""
        return noise_batch(count, (size, size), seed, types=self.types)[0]

    @property
    def facts(self) -> DataSource:
        """Noise is made, not collected: its digest covers the names of the types."""
        chosen = [NAMES[index] for index in self.types]
        return DataSource(
            kind="noise",
            description=f"generated noise: {', '.join(chosen)}",
            digest=canonical.sha256(canonical.dump(chosen)),
            images=0,
            license="none needed: generated",
            source="batteries.noise",
        )


@dataclass(frozen=True)
class PhotoSource:
    """Random crops of photographs.

    Attributes:
        photos: Read by :func:`batteries.photos.read_photos`.
        license: SPDX expression of the photographs' licences.
        source: Where they can be had.
    """

    photos: Photos
    license: str
    source: str

    def batch(self, seed: int, count: int, size: int) -> Tensor:
        """(count, 3, size, size) in [-1, 1]."""
        return self.photos.crops(count, size, seed)

    @property
    def facts(self) -> DataSource:
        """Names, number, digest and licence of the photographs."""
        names = ", ".join(self.photos.names)
        return DataSource(
            kind="photos",
            description=(names if len(names) <= 1900 else f"{names[:1900]} ...") + f" ({len(self.photos.skipped)} skipped)",
            digest=self.photos.digest,
            images=len(self.photos.names),
            license=self.license,
            source=self.source,
        )


def seed_of(run_seed: int, step: int, purpose: int = 0) -> int:
    """A seed for one step of a run, far from those of its neighbours."""
    return int(np.random.SeedSequence([run_seed, step, purpose]).generate_state(1, np.uint64)[0] >> 1)
