"""Sources of training batches: batch k of a run depends on the run's seed and k alone, so that a run can resume."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from batteries.cell.manifest import OWN_MIX, DataSource, NoiseMix
from batteries.data import photograph_overlap
from batteries.data.photos import Photos
from batteries.data.probes import Probe
from batteries.errors import PolicyError
from batteries.io import canonical_json
from batteries.noise import NAMES, indices_of, random_batch, refuse_unknown

SHOWN = 6  # photographs in a message
AUGMENT_SEED = 4  # purpose in seed_of, distinct from training, baselines, soft hand and read-outs


class Source(Protocol):
    """Provider of training images and of facts about them."""

    def batch(self, seed: int, count: int, size: int) -> Tensor:
        """Return images (count, channels, size, size), determined by the seed."""
        ...

    @property
    def facts(self) -> DataSource:
        """Facts about the data for the manifest."""
        ...

    @property
    def domain(self) -> Source:
        """Part of the data in the cell's own domain, which baselines are fitted on."""
        ...


@dataclass(frozen=True)
class NoiseSource:
    """Noise of some or all of the 16 types, with equal probability.

    Attributes:
        types: Indices into :data:`batteries.noise.NAMES`.
        mix: Mix of the types: ``batteries``, or ``published`` for figures to compare with published ones (docs/noise.md).
        augment: Whether images are also turned by quarter turns, uniformly at random. It changes the law of *checkerboard*,
            which has a whole dark cell in its first corner, and of *quadrants* and *gradient*.

    Raises:
        InputError: no mix of that name (``NOISE_MIX``); no types, or one that is unknown or doubled (``NOISE_TYPE``).

    >>> import batteries
    >>> source = batteries.NoiseSource(types=(0, 1))
    >>> source.batch(seed=0, count=4, size=64).shape
    torch.Size([4, 3, 64, 64])
    """

    types: tuple[int, ...] = tuple(range(len(NAMES)))
    mix: NoiseMix = OWN_MIX
    augment: bool = False

    def __post_init__(self) -> None:
        refuse_unknown(self.mix)
        indices_of(NAMES[kind] if kind in range(len(NAMES)) else str(kind) for kind in self.types)

    @classmethod
    def recorded(cls, facts: DataSource) -> NoiseSource:
        """Return the source that a manifest records.

        Raises:
            InputError: no types of those names (``NOISE_TYPE``).
        """
        indices_of(facts.noise_types or NAMES)
        return cls(tuple(map(NAMES.index, facts.noise_types or NAMES)), facts.noise_mix)

    @classmethod
    def of_probe(cls, probe: Probe) -> NoiseSource:
        """Return the source of images like those of a probe of noise."""
        return cls(tuple(map(NAMES.index, probe.groups)), probe.noise_mix)

    def batch(self, seed: int, count: int, size: int) -> Tensor:
        """Generate images (count, 3, size, size) in [-4, 4]."""
        images = random_batch(count, (size, size), seed, types=self.types, mix=self.mix)[0]
        return _turned(images, torch.Generator().manual_seed(seed_of(seed, 0, AUGMENT_SEED))) if self.augment else images

    @property
    def facts(self) -> DataSource:
        """Facts about the noise; the digest covers the names of the types, and of a mix that is not this package's."""
        chosen = [NAMES[index] for index in self.types]
        own, turned = self.mix == OWN_MIX, ["augment"] if self.augment else []
        words = f"generated noise{'' if own else f', {self.mix} mix'}: {', '.join(chosen)}"
        return DataSource(
            kind="noise",
            description=f"{words}; images turned" if turned else words,
            digest=canonical_json.sha256(canonical_json.dump([*([] if own else [self.mix]), *chosen, *turned])),
            images=0,
            license="none needed: generated",
            source="batteries.noise",
            noise_mix=self.mix,
            noise_types=() if len(chosen) == len(NAMES) else tuple(chosen),
        )

    @property
    def domain(self) -> NoiseSource:
        """Noise as it is."""
        return replace(self, augment=False) if self.augment else self


@dataclass(frozen=True)
class PhotoSource:
    """Random crops of photographs.

    Attributes:
        photos: Photographs read by :func:`batteries.data.photos.read_photos`.
        license: SPDX expression of the photographs' licences.
        source: Place where the photographs are available, such as an address.
        augment: Whether crops are also turned by quarter turns, negated, and their channels permuted, each uniformly at random.

    >>> import batteries
    >>> from PIL import Image
    >>> Image.linear_gradient("L").save("gradient.png")
    >>> source = batteries.PhotoSource(batteries.read_photos("gradient.png"), license="CC0-1.0", source="drawn")
    >>> source.batch(seed=0, count=4, size=64).shape
    torch.Size([4, 3, 64, 64])
    """

    photos: Photos
    license: str
    source: str
    augment: bool = False

    def batch(self, seed: int, count: int, size: int) -> Tensor:
        """Cut crops (count, 3, size, size) in [-1, 1]."""
        crops = self.photos.crops(count, size, seed)
        return _augmented(crops, seed_of(seed, 0, AUGMENT_SEED)) if self.augment else crops

    @functools.cached_property
    def shown(self) -> dict[str, str]:
        """Photograph of a probe that each overlapping photograph shows, by name; a fraction of a second per photograph."""
        return photograph_overlap.shown(self.photos)

    @property
    def facts(self) -> DataSource:
        """Names, number, digest and licence of the photographs, and the probes' photographs among them."""
        names = ", ".join(self.photos.names)
        shown = names if len(names) <= 1900 else f"{names[:1900]} ..."
        varied = "; crops turned, negated, channels permuted" if self.augment else ""
        digest = self.photos.digest
        return DataSource(
            kind="photos",
            description=f"{shown} ({len(self.photos.skipped)} skipped){varied}",
            digest=canonical_json.sha256(canonical_json.dump([digest, "augment"])) if self.augment else digest,
            images=len(self.photos.names),
            license=self.license,
            source=self.source,
            probe_photographs=tuple(sorted(set(self.shown.values()))),
        )

    @property
    def domain(self) -> PhotoSource:
        """Photographs as they are."""
        return replace(self, augment=False) if self.augment else self


@dataclass(frozen=True)
class MixedSource:
    """Photographs with a share of noise of this package's mix, which keeps a cell from memorising its photographs.

    Attributes:
        photos: Crops of photographs, the cell's own domain.
        share: Part of every batch that is noise, from 0 to 1; rounded down to whole images.

    >>> import batteries
    >>> from PIL import Image
    >>> Image.linear_gradient("L").save("gradient.png")
    >>> photos = batteries.PhotoSource(batteries.read_photos("gradient.png"), license="CC0-1.0", source="drawn")
    >>> batteries.MixedSource(photos, share=0.25).batch(seed=0, count=4, size=64).shape
    torch.Size([4, 3, 64, 64])
    """

    photos: PhotoSource
    share: float

    def batch(self, seed: int, count: int, size: int) -> Tensor:
        """Return images (count, 3, size, size), photographs first, then noise."""
        noisy = int(count * self.share)
        return torch.cat([self.photos.batch(seed, count - noisy, size), NoiseSource().batch(seed, noisy, size)])

    @property
    def facts(self) -> DataSource:
        """Facts of the photographs, with the share of noise in the description and the digest."""
        facts, noise = self.photos.facts, NoiseSource().facts
        words = f"{1 - self.share:.0%} photographs, {self.share:.0%} generated noise of the 16 types: {facts.description}"
        digest = canonical_json.sha256(canonical_json.dump([facts.digest, noise.digest, self.share]))
        return facts.model_copy(update={"description": words, "digest": digest})

    @property
    def domain(self) -> Source:
        """Photographs alone, as they are."""
        return self.photos.domain


OWN_SOURCES = (NoiseSource, PhotoSource, MixedSource)


def refuse_shown(source: Source) -> None:
    """Refuse a source whose facts list photographs of the probes.

    Raises:
        PolicyError: training images overlap with a probe (``PROBE_PHOTOS``); the first are named with the photograph shown.
    """
    facts, photos = source.facts, source.domain
    if facts.probe_photographs:
        pairs = photos.shown.items() if isinstance(photos, PhotoSource) else ()
        named = [f"{name} shows {known}" for name, known in pairs] or list(facts.probe_photographs)
        raise PolicyError(
            "training images overlap with a probe",
            code="PROBE_PHOTOS",
            expected="photographs outside the probes",
            found=", ".join(named[:SHOWN]) + (f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""),
            remedy="Leave these out, or allow them (allow_probe_photos=True, --allow-probe-photos); the manifest lists them.",
        )


def _augmented(crops: Tensor, seed: int) -> Tensor:
    """Turn each crop (B, 3, size, size) by quarter turns, negate it or not, and permute its channels, all at random."""
    generator = torch.Generator().manual_seed(seed)
    turned = _turned(crops, generator)
    signs = torch.randint(2, (len(crops), 1, 1, 1), generator=generator) * 2.0 - 1
    orders = [torch.randperm(crops.shape[1], generator=generator) for _ in crops]
    return signs * torch.stack([crop[order] for crop, order in zip(turned, orders, strict=True)])


def _turned(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn each image (B, 3, size, size) by quarter turns at random."""
    turns = torch.randint(4, (len(images),), generator=generator).tolist()
    return torch.stack([image.rot90(k, (1, 2)) for image, k in zip(images, turns, strict=True)])


def seed_of(run_seed: int, step: int, purpose: int = 0) -> int:
    """Return a seed for one step of a run, independent of those of other steps."""
    return int(np.random.SeedSequence([run_seed, step, purpose]).generate_state(1, np.uint64)[0]) >> 1
