"""Kinds of images of a diagnosis: known and unseen noise laws, photographs, text as bytes, gradients, extreme contrast."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Generator, Tensor

from batteries import short_repr
from batteries.cell.manifest import OWN_MIX, NoiseMix
from batteries.data.probes import probe
from batteries.data.sources import seed_of
from batteries.data.unseen import CONTRASTS, LAWS, unseen
from batteries.engine.torch_settings import PINNED, neutral
from batteries.noise import NAMES, of_types

Group = Literal["known laws", "unseen laws", "photographs", "text", "gradients", "contrast"]
PER_LAW = 8  # images of each of the 32 laws
PER_KIND = 24  # of text, gradients and each contrast
SIDE = 64  # pixels, or the next smaller multiple of the patch size
KIND_SEED = 29  # purpose in seed_of, distinct from others


@dataclass(frozen=True, eq=False)
class Kind:
    """Images of one kind.

    Attributes:
        name: Name, such as ``gaussian``, ``arcsine`` or ``text``.
        group: Group of kinds that it belongs to.
        images: Images (B, 3, side, side).
        cluster: Cluster (B,) for standard errors: the photograph, or the image itself.
        fold: Half (B,) of the photographs that each image is of; None of other images.
    """

    name: str
    group: Group
    images: Tensor
    cluster: Tensor
    fold: Tensor | None = None

    __repr__ = short_repr.fields


@lru_cache(maxsize=2)
@neutral()
def kinds(side: int = SIDE, mix: NoiseMix = OWN_MIX) -> tuple[Kind, ...]:
    """Generate the images of all kinds; they must not be changed, since they are kept.

    Args:
        side: Side of the images, at most 64 pixels, to which photographs are cut.
        mix: Mix of the known noise.

    >>> found = kinds(16)
    >>> len(found), found[0].name, found[0].images.shape
    (38, 'gaussian', torch.Size([8, 3, 16, 16]))
    """
    places = iter(range(1, 100))

    def generated(name: str, group: Group, count: int) -> Kind:
        return Kind(name, group, unseen(name, count, side, seed_of(0, next(places), KIND_SEED)), torch.arange(count))

    types = torch.arange(len(NAMES)).repeat_interleave(PER_LAW)
    known = of_types(types, (side, side), Generator().manual_seed(seed_of(0, 0, KIND_SEED)), mix=mix)
    photos = probe("photos-64")
    return (
        *(Kind(name, "known laws", known[types == i], torch.arange(PER_LAW)) for i, name in enumerate(NAMES)),
        *(generated(name, "unseen laws", PER_LAW) for name in LAWS),
        Kind("photographs", "photographs", photos.images[..., :side, :side], photos.cluster, photos.cluster % 2),
        generated("text", "text", PER_KIND),
        Kind("gradients", "gradients", gradients(PER_KIND, side, seed_of(0, 99, KIND_SEED)), torch.arange(PER_KIND)),
        *(generated(f"contrast-{factor:g}", "contrast", PER_KIND) for factor in CONTRASTS),
    )


def gradients(count: int, side: int, seed: int) -> Tensor:
    """Make planes without noise at a random angle for each image and channel, from -1 to 1 along the axes.

    >>> gradients(2, 8, seed=0).shape
    torch.Size([2, 3, 8, 8])
    """
    angle = 2 * math.pi * torch.rand(count, 3, 1, 1, generator=Generator().manual_seed(seed), **PINNED)
    along = torch.linspace(-1, 1, side, **PINNED)
    return angle.cos() * along[None, :] + angle.sin() * along[:, None]
