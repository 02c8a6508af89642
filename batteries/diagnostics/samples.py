"""Images of a probe at any size, of bounded number: the probe's own at its size, elsewhere new ones of the same groups.

Noise of another size has the probe's types and mix; crops come from the photographs of the probe that are large enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Generator, Tensor

from batteries import short_repr
from batteries.cell.spec import CellSpec
from batteries.data.photos import to_float, to_tensor
from batteries.data.probes import Probe, photographs
from batteries.data.sources import seed_of
from batteries.errors import InputError
from batteries.images.decoding import read_image
from batteries.measurement.measure import PATCHES_AT_ONCE
from batteries.noise import NAMES, of_types

MOST_SIZE = 1024  # pixels
MOST_PATCHES = 2**16  # of one image: time of attention grows with their square
PATCHES = 2**16  # of all images of a size, except that every group keeps an image
MOST_PATCHES_IN_ALL = 2**18  # beyond which some groups have none: four images of 65,536 patches
NOISE_SEED = 8  # purpose in seed_of, distinct from training, baselines, soft hand and read-out
PHOTO_SEED = 100  # times the size: the seeds of the probes of 64 and 256 pixels


@dataclass(frozen=True, eq=False)
class Sample:
    """Images of one size.

    Attributes:
        size: Height and width in pixels.
        group: Index (B,) of each image's noise type or photograph in ``groups``.
        groups: Names of the noise types or photographs; empty if unknown.
        cluster: Cluster (B,) of each image for standard errors.
        draw: Function from indices (b,) to images (b, channels, height, width).
    """

    size: tuple[int, int]
    group: Tensor
    groups: tuple[str, ...]
    cluster: Tensor
    draw: Callable[[Tensor], Tensor]

    def __repr__(self) -> str:
        images = f"{short_repr.counted(len(self.group), 'image')} of {self.size[0]} x {self.size[1]}"
        return short_repr.headed(self, images, short_repr.counted(len(self.groups), "group"))

    def parts(self, spec: CellSpec) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield indices (b,) and images (b, channels, height, width), few patches at a time."""
        rows, columns = spec.grid(*self.size)
        for part in torch.arange(len(self.group)).split(max(1, PATCHES_AT_ONCE // (rows * columns))):
            yield part, self.draw(part)


def of_images(images: Tensor, cluster: Tensor | None = None) -> Sample:
    """Make a sample of images (B, channels, height, width) in clusters (B,), by default one each."""
    each = torch.arange(len(images))
    height, width = images.shape[2:]
    return Sample((height, width), torch.zeros_like(each), (), each if cluster is None else cluster, images.__getitem__)


def of_probe(probe: Probe, size: int, spec: CellSpec, *, most: int | None = None, seed: int = 0) -> Sample:
    """Make a sample like a probe.

    Args:
        probe: Probe.
        size: Side in pixels.
        spec: Spec of the cell that is to read it.
        most: Images of a group; by default as many as the probe has, fewer if they have too many patches. Where one of each
            group is too many, as of noise at 1,024 pixels in patches of 4, some groups have none.
        seed: Seed of new images; 0 stands for the probe's own where they have the size.

    Raises:
        InputError: size that is no multiple of the patch size (``IMAGE_SIZE``), too large (``SIZE``), or for which the probe's
            photographs are too small or not at hand (``SIZE``).
    """
    patches = patches_of(size, spec)
    per_group = most or min(int(probe.group.bincount().max()), max(1, PATCHES // (patches * len(probe.groups))))
    groups = _spread(probe.groups, MOST_PATCHES_IN_ALL // patches)
    own = probe.images.shape[1] == spec.channels or probe.domain == "photos"
    if seed == 0 and own and probe.images.shape[2:] == (size, size):
        return _own(probe, size, per_group)
    if probe.domain == "photos":
        return _crops(probe, size, per_group, seed, groups)
    return _noise(probe, size, per_group, seed, spec.channels, groups)


def patches_of(size: int, spec: CellSpec) -> int:
    """Return the number of patches of an image.

    Raises:
        InputError: size that is no multiple of the patch size (``IMAGE_SIZE``), or too large (``SIZE``).
    """
    if size > MOST_SIZE:
        raise InputError("image size too large", code="SIZE", expected=f"at most {MOST_SIZE} pixels", found=size)
    rows, columns = spec.grid(size, size)
    if rows * columns > MOST_PATCHES:
        expected = f"at most {MOST_PATCHES:,} patches of an image"
        raise InputError("too many patches", code="SIZE", expected=expected, found=f"{rows * columns:,} at {size} pixels")
    return rows * columns


def _spread(groups: tuple[str, ...], most: int) -> tuple[str, ...]:
    """Choose some of the groups, spread evenly from the first to the last, if there are more than a number."""
    if len(groups) <= most:
        return groups
    return tuple(groups[index] for index in np.linspace(0, len(groups) - 1, most).round().astype(int))


def _own(probe: Probe, size: int, per_group: int) -> Sample:
    places = [(probe.group == group).nonzero()[:per_group, 0] for group in range(len(probe.groups))]
    kept = torch.cat(places).sort().values
    images = probe.images[kept]
    return Sample((size, size), probe.group[kept], probe.groups, probe.cluster[kept], images.__getitem__)


def _noise(probe: Probe, size: int, per_group: int, seed: int, channels: int, groups: tuple[str, ...]) -> Sample:
    types = torch.tensor([NAMES.index(name) for name in groups])
    group = torch.arange(len(types)).repeat_interleave(per_group)

    def one(index: int) -> Tensor:
        generator = Generator().manual_seed(seed_of(seed, index, NOISE_SEED * size))
        return of_types(types[group[index]][None], (size, size), generator, channels=channels, mix=probe.noise_mix)

    def draw(indices: Tensor) -> Tensor:
        return torch.cat([one(index) for index in indices.tolist()])

    return Sample((size, size), group, groups, torch.arange(len(group)), draw)


def _crops(probe: Probe, size: int, per_group: int, seed: int, groups: tuple[str, ...]) -> Sample:
    files = {path.stem: path for path in photographs()}
    rng = np.random.default_rng(PHOTO_SEED * size + seed)
    crops: list[Tensor] = []
    names: list[str] = []
    for name in groups:
        if name not in files:
            expected = f"{probe.images.shape[2]} pixels, as its photographs are not at hand"
            raise InputError("no crops of that size", code="SIZE", expected=expected, found=size, where=probe.name)
        picture = to_tensor(read_image(files[name]))
        if min(picture.shape[1:]) < size:
            continue
        names.append(name)
        for _ in range(per_group):
            top, left = (int(rng.integers(side - size + 1)) for side in picture.shape[1:])
            crops.append(picture[:, top : top + size, left : left + size].clone())
    if not names:
        largest = max(min(read_image(files[name]).size) for name in probe.groups)
        expected = f"at most {largest} pixels, the side of the largest photograph"
        raise InputError("photographs smaller than the crop", code="SIZE", expected=expected, found=size, where=probe.name)
    group = torch.arange(len(names)).repeat_interleave(per_group)
    return Sample((size, size), group, tuple(names), group, partial(_floats, torch.stack(crops)))


def _floats(pixels: Tensor, indices: Tensor) -> Tensor:
    return to_float(pixels[indices])
