"""Probes: seeded sets of images that figures are measured on, kept out of the training data of cells.

A probe's digest covers its recipe and every byte of its photographs. Photographic probes are equal to the bit on all platforms;
noise probes may differ in the last bit of a platform's transcendental functions.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from batteries import short_repr
from batteries.cell.manifest import OWN_MIX, Domain, NoiseMix
from batteries.data.photos import to_float, to_tensor
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from batteries.images.decoding import read_image
from batteries.io import canonical_json
from batteries.noise import NAMES, of_types, refuse_unknown

NOISE_PER_TYPE = 16
CROPS_PER_PHOTO = {64: 6, 256: 2}


@dataclass(frozen=True, eq=False)
class Probe:
    """Named set of images. Two are equal if their digests are.

    Attributes:
        name: Name, such as ``noise16-64``.
        version: Version of the images.
        domain: Sort of image, ``noise`` or ``photos``.
        images: Images (B, 3, size, size), photographs in [-1, 1], noise in [-4, 4].
        group: Index (B,) of each image's noise type or photograph in ``groups``.
        groups: Names of the noise types or photographs.
        digest: SHA-256 of the recipe and of the bytes of its photographs.
        noise_mix: Mix of its noise types; of photographs that of this package, which is without meaning.

    >>> import batteries
    >>> probe = batteries.probe("noise16-64")
    >>> probe.images.shape, probe.groups[0]
    (torch.Size([256, 3, 64, 64]), 'gaussian')
    """

    name: str
    version: int
    domain: Domain
    images: Tensor
    group: Tensor
    groups: tuple[str, ...]
    digest: str
    noise_mix: NoiseMix = OWN_MIX

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.images.shape[1:]))
        kinds = short_repr.counted(len(self.groups), *{"noise": ("noise type",)}.get(self.domain, ("photograph",)))
        images = f"{short_repr.counted(len(self.images), 'image')} of {size}"
        return short_repr.headed(self, self.name, f"version {self.version}", images, kinds)

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Probe) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def cluster(self) -> Tensor:
        """Clusters (B,) for standard errors: crops of one photograph are not independent."""
        return self.group if self.domain == "photos" else torch.arange(len(self.images), device="cpu")


PROBES = ("noise16-64", "noise16p-64", "photos-64", "photos-256")


@functools.cache
@neutral()
def probe(name: str) -> Probe:
    """Return a probe by name. Its images must not be changed: the object is shared by all callers.

    Raises:
        InputError: no probe of that name (``NO_PROBE``).

    >>> import batteries
    >>> batteries.probe("photos-64").images.shape
    torch.Size([96, 3, 64, 64])
    """
    match name:
        case "noise16-64":
            return _noise_probe(name, size=64, seed=1600)
        case "noise16p-64":
            return _noise_probe(name, size=64, seed=1600, mix="published")
        case "photos-64":
            return _photo_probe(name, size=64, seed=6400)
        case "photos-256":
            return _photo_probe(name, size=256, seed=25600)
        case _:
            raise InputError("unknown probe", code="NO_PROBE", expected=" | ".join(PROBES), found=name)


def probe_of(given: Probe | str) -> Probe:
    """Return a probe given as such or by name.

    Raises:
        InputError: no probe of that name (``NO_PROBE``), or neither a probe nor a name (``PROBE``).
    """
    if isinstance(given, Probe):
        return given
    if isinstance(given, str):
        return probe(given)
    remedy = "Use a named one, such as batteries.probe('photos-64'), or make one of your images with batteries.Probe(...)."
    expected = f"a probe, or one of {', '.join(PROBES)}"
    raise InputError("not a probe", code="PROBE", expected=expected, found=type(given).__name__, remedy=remedy)


def own_probe(domain: Domain, size: int, noise_mix: NoiseMix = OWN_MIX) -> str:
    """Return the name of a cell's own probe: that of its noise mix, or of photographs, 256 pixels wide if its crops were.

    >>> import batteries
    >>> batteries.own_probe("photos", 64), batteries.own_probe("photos", 256), batteries.own_probe("noise", 256)
    ('photos-64', 'photos-256', 'noise16-64')
    >>> batteries.own_probe("noise", 64, "published")
    'noise16p-64'

    Raises:
        InputError: unknown mix (``NOISE_MIX``).
    """
    if domain == "noise":
        refuse_unknown(noise_mix)
        return "noise16-64" if noise_mix == OWN_MIX else "noise16p-64"
    return "photos-256" if size >= 256 else "photos-64"


def photographs() -> tuple[Path, ...]:
    """List the held-out photographs that ship with this package."""
    folder = resources.files("batteries") / "photographs"
    return tuple(sorted(Path(str(entry)) for entry in folder.iterdir() if entry.name.endswith(".png")))


def _noise_probe(name: str, size: int, seed: int, mix: NoiseMix = OWN_MIX) -> Probe:
    group = torch.arange(len(NAMES)).repeat_interleave(NOISE_PER_TYPE)
    images = of_types(group, (size, size), Generator().manual_seed(seed), mix=mix)
    recipe = {"name": name, "version": 1, "size": size, "seed": seed, "per_type": NOISE_PER_TYPE, "types": list(NAMES)}
    if mix != OWN_MIX:
        recipe["mix"] = mix
    return Probe(name, 1, "noise", images, group, NAMES, canonical_json.sha256(canonical_json.dump(recipe)), mix)


def _photo_probe(name: str, size: int, seed: int) -> Probe:
    rng = np.random.default_rng(seed)
    per_photo = CROPS_PER_PHOTO[size]
    crops: list[Tensor] = []
    sources: dict[str, str] = {}
    for path in photographs():
        picture = to_tensor(read_image(path))
        sources[path.stem] = canonical_json.sha256(path.read_bytes())
        for _ in range(per_photo):
            top = rng.integers(picture.shape[1] - size + 1)
            left = rng.integers(picture.shape[2] - size + 1)
            crops.append(picture[:, top : top + size, left : left + size])
    recipe = {"name": name, "version": 2, "size": size, "seed": seed, "per_photo": per_photo, "sources": sources}
    group = torch.arange(len(sources)).repeat_interleave(per_photo)
    digest = canonical_json.sha256(canonical_json.dump(recipe))
    return Probe(name, 2, "photos", to_float(torch.stack(crops)), group, tuple(sources), digest)
