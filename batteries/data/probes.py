"""Probes: seeded sets of images that figures are measured on, kept out of the training data of cells.

A probe's digest covers its recipe and every byte of its photographs. Photographic probes are equal to the bit on all platforms;
noise probes may differ in the last bit of a platform's transcendental functions.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
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
from batteries.noise import NAMES, indices_of, of_types, refuse_unknown

NOISE_MIXES: dict[str, NoiseMix] = {"noise16-64": OWN_MIX, "noise16p-64": "published"}
NOISE_IMAGES = 256  # of a probe of noise, in equal number per type: 16 of each of 16 types, 256 of one
NOISE_SEED = 1600
CROPS_PER_PHOTO = {64: 6, 256: 2}


@dataclass(frozen=True, eq=False)
class Probe:
    """Named set of images. Two are equal if their digests are.

    Attributes:
        name: Name, such as ``noise16-64`` or ``noise16-64:pink+brown``.
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


PROBES = (*NOISE_MIXES, "photos-64", "photos-256")
KEPT = 24  # probes in memory: 12 MB each


@functools.lru_cache(maxsize=KEPT)
@neutral()
def probe(name: str) -> Probe:
    """Return a probe by name. Its images must not be changed: the object is shared by all callers.

    ``noise16-64:pink+brown`` has these types of ``noise16-64`` alone, in the order of :data:`batteries.noise.NAMES`, and images
    of its own: 256 of a single type, or the next larger number that is equal for each type.

    Raises:
        InputError: no probe of that name (``NO_PROBE``); no types of those names (``NOISE_TYPE``).

    >>> import batteries
    >>> batteries.probe("photos-64").images.shape, batteries.probe("noise16-64:pink+brown").groups
    (torch.Size([96, 3, 64, 64]), ('pink', 'brown'))
    """
    base, colon, types = name.partition(":")
    if base in NOISE_MIXES:
        return _noise_probe(name, 64, NOISE_MIXES[base], types.split("+") if colon else NAMES)
    match name:
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


def own_probe(domain: Domain, size: int, noise_mix: NoiseMix = OWN_MIX, noise_types: Sequence[str] = ()) -> str:
    """Return the name of a cell's own probe: that of its noise, or of photographs, 256 pixels wide if its crops were.

    Args:
        domain: Sort of its training images.
        size: Their side in pixels.
        noise_mix: Mix of its noise types.
        noise_types: Names of its noise types; none stands for all 16.

    >>> import batteries
    >>> batteries.own_probe("photos", 64), batteries.own_probe("photos", 256), batteries.own_probe("noise", 256)
    ('photos-64', 'photos-256', 'noise16-64')
    >>> batteries.own_probe("noise", 64, "published"), batteries.own_probe("noise", 64, noise_types=["brown", "pink"])
    ('noise16p-64', 'noise16-64:pink+brown')

    Raises:
        InputError: unknown mix (``NOISE_MIX``), or types (``NOISE_TYPE``).
    """
    if domain == "noise":
        refuse_unknown(noise_mix)
        chosen = [NAMES[kind] for kind in indices_of(noise_types or NAMES)]
        whole = next(name for name, mix in NOISE_MIXES.items() if mix == noise_mix)
        return whole if len(chosen) == len(NAMES) else f"{whole}:{'+'.join(chosen)}"
    return "photos-256" if size >= 256 else "photos-64"


def photographs() -> tuple[Path, ...]:
    """List the held-out photographs that ship with this package."""
    folder = resources.files("batteries") / "photographs"
    return tuple(sorted(Path(str(entry)) for entry in folder.iterdir() if entry.name.endswith(".png")))


def _noise_probe(name: str, size: int, mix: NoiseMix, types: Sequence[str]) -> Probe:
    chosen = indices_of(types)
    names = tuple(NAMES[kind] for kind in chosen)
    if name != (known := own_probe("noise", size, mix, names)):
        raise InputError("unknown probe", code="NO_PROBE", expected=known, found=name)
    seed, per_type = _noise_seed(chosen), -(-NOISE_IMAGES // len(chosen))
    group = torch.arange(len(chosen)).repeat_interleave(per_type)
    images = of_types(torch.tensor(chosen)[group], (size, size), Generator().manual_seed(seed), mix=mix)
    recipe = {"name": name, "version": 1, "size": size, "seed": seed, "per_type": per_type, "types": list(names)}
    if mix != OWN_MIX:
        recipe["mix"] = mix
    return Probe(name, 1, "noise", images, group, names, canonical_json.sha256(canonical_json.dump(recipe)), mix)


def _noise_seed(chosen: Sequence[int]) -> int:
    """Return a seed of its own for each set of types, so that no two probes are drawn from the same numbers."""
    whole = len(chosen) == len(NAMES)
    return NOISE_SEED if whole else NOISE_SEED * 2 ** len(NAMES) + sum(2**kind for kind in chosen)


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
