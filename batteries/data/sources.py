"""Where a training batch comes from: batch k of a run depends on the run's seed and k alone, so that a run can resume."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from batteries.cell.manifest import DataSource
from batteries.data import photograph_overlap
from batteries.data.photos import Photos
from batteries.errors import PolicyError
from batteries.io import canonical_json
from batteries.noise import NAMES, random_batch

SHOWN = 6  # photographs in a message


class Source(Protocol):
    """Something that gives training images and can say what they are."""

    def batch(self, seed: int, count: int, size: int) -> Tensor:
        """(count, channels, size, size), the same for the same seed."""
        ...

    @property
    def facts(self) -> DataSource:
        """What a manifest says of the data."""
        ...

    @property
    def domain(self) -> Source:
        """The part of it that is of the cell's own domain: what baselines are fitted on."""
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
        return random_batch(count, (size, size), seed, types=self.types)[0]

    @property
    def facts(self) -> DataSource:
        """Noise is made, not collected: its digest covers the names of the types."""
        chosen = [NAMES[index] for index in self.types]
        return DataSource(
            kind="noise",
            description=f"generated noise: {', '.join(chosen)}",
            digest=canonical_json.sha256(canonical_json.dump(chosen)),
            images=0,
            license="none needed: generated",
            source="batteries.noise",
        )

    @property
    def domain(self) -> Source:
        """All of it."""
        return self


@dataclass(frozen=True)
class PhotoSource:
    """Random crops of photographs.

    Attributes:
        photos: Read by :func:`batteries.data.photos.read_photos`.
        license: SPDX expression of the photographs' licences.
        source: Where they can be had.
    """

    photos: Photos
    license: str
    source: str

    def batch(self, seed: int, count: int, size: int) -> Tensor:
        """(count, 3, size, size) in [-1, 1]."""
        return self.photos.crops(count, size, seed)

    @functools.cached_property
    def shown(self) -> dict[str, str]:
        """By name of a photograph, the photograph of a probe that it shows; a fraction of a second a photograph, once."""
        return photograph_overlap.shown(self.photos)

    @property
    def facts(self) -> DataSource:
        """Names, number, digest and licence of the photographs, and photographs of the probes that are among them."""
        names = ", ".join(self.photos.names)
        return DataSource(
            kind="photos",
            description=(names if len(names) <= 1900 else f"{names[:1900]} ...") + f" ({len(self.photos.skipped)} skipped)",
            digest=self.photos.digest,
            images=len(self.photos.names),
            license=self.license,
            source=self.source,
            probe_photographs=tuple(sorted(set(self.shown.values()))),
        )

    @property
    def domain(self) -> Source:
        """All of it."""
        return self


@dataclass(frozen=True)
class MixedSource:
    """Photographs with some noise among them, which keeps a cell from learning its photographs by heart.

    Attributes:
        photos: Crops of photographs, the cell's own domain.
        share: Of every batch that is noise, from 0 to 1; rounded down to whole images.
    """

    photos: PhotoSource
    share: float

    def batch(self, seed: int, count: int, size: int) -> Tensor:
        """(count, 3, size, size): photographs first, then noise."""
        noisy = int(count * self.share)
        return torch.cat([self.photos.batch(seed, count - noisy, size), NoiseSource().batch(seed, noisy, size)])

    @property
    def facts(self) -> DataSource:
        """Those of the photographs, with the share of noise named and in the digest."""
        facts, noise = self.photos.facts, NoiseSource().facts
        words = f"{1 - self.share:.0%} photographs, {self.share:.0%} generated noise of the 16 types: {facts.description}"
        digest = canonical_json.sha256(canonical_json.dump([facts.digest, noise.digest, self.share]))
        return facts.model_copy(update={"description": words, "digest": digest})

    @property
    def domain(self) -> Source:
        """The photographs."""
        return self.photos


OWN_SOURCES = (NoiseSource, PhotoSource, MixedSource)


def refuse_shown(source: Source) -> None:
    """Refuse training images that show a probe's photographs, by the source's own facts.

    Raises:
        PolicyError: they do (``PROBE_PHOTOS``); each of the first photographs is named with what it shows.
    """
    facts, photos = source.facts, source.domain
    if facts.probe_photographs:
        pairs = photos.shown.items() if isinstance(photos, PhotoSource) else ()
        named = [f"{name} shows {known}" for name, known in pairs] or list(facts.probe_photographs)
        raise PolicyError(
            "training images that a probe shows",
            code="PROBE_PHOTOS",
            expected="photographs that no probe is made of",
            found=", ".join(named[:SHOWN]) + (f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""),
            remedy="Leave these out, or allow them (allow_probe_photos=True, --allow-probe-photos); the manifest will say so.",
        )


def seed_of(run_seed: int, step: int, purpose: int = 0) -> int:
    """Seed for one step of a run, far from those of its neighbours."""
    return int(np.random.SeedSequence([run_seed, step, purpose]).generate_state(1, np.uint64)[0] >> 1)
