"""Start of a battery VAE on its cells' own statistics: principal axes, mean configurations and consensus maps.

Decompositions happen here, once, and in no step of a training.
Legend: C sectors, B images, N patches of an image, K arrays, V rows, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from batteries.cell.cell import Cell
from batteries.data.sources import Source, seed_of
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from batteries.model import spectral
from composer.adaptation.domains import own_domain
from composer.procrustes import generalized
from composer.vae.spec_part import SpecPart

OWN = 21  # purpose of seeds
IMAGES, SIDE = 32, 64  # images of a cell's own domain, and their least side
PATCHES = 4096  # most matrices of a cell whose axes are taken


def own_images(cells: Mapping[str, Cell], seed: int) -> dict[str, Tensor]:
    """Draw images (B, channels, height, width) of each cell's own domain, the same for cells of one domain."""
    sources: dict[str, Source] = {}
    found: dict[str, Tensor] = {}
    for name, cell in cells.items():
        probe, p = cell.manifest.own_probe, cell.spec.patch_size
        if probe not in sources:
            sources[probe] = own_domain(cell).source
        found[name] = sources[probe].batch(seed_of(seed, 0, OWN), IMAGES, p * -(-SIDE // p))
    return found


@neutral()
@torch.no_grad()
def begin(parts: Sequence[SpecPart], images: Mapping[str, Tensor], given: Mapping[str, Tensor] | None) -> None:
    """Start bottlenecks, arrays and maps.

    Args:
        parts: Parts of the model.
        images: Images of each sector's own domain.
        given: Arrays (K, V, D) of each sector in its own coordinates; by default mean configurations.
    """
    configurations: dict[str, Tensor] = {}
    for part, place, name in _sectors(parts):
        M = part.sectors.encode_one(place, images[name]).M[0]
        matrices = M.flatten(0, 1)
        part.bottleneck.start(place, matrices[:: max(1, len(matrices) // PATCHES)])
        K = part.arrays.points.shape[1]
        means = torch.stack([part_of.mean(dim=(0, 1)) for part_of in M.tensor_split(K)]) if given is None else given[name]
        configurations[name] = spectral.unit_rows(means.float())
    maps = consensus_maps(parts, configurations)
    for part, place, name in _sectors(parts):
        part.arrays.maps[place] = maps[name]
        part.arrays.points[place] = configurations[name] @ maps[name]


def consensus_maps(parts: Sequence[SpecPart], configurations: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fit the orthogonal map (D, D) of each sector's configurations (K, V, D) into the consensus of those of its V and D."""
    families: dict[tuple[int, int], list[str]] = {}
    for part in parts:
        families.setdefault((part.spec.V, part.spec.D), []).extend(part.names)
    found: dict[str, Tensor] = {}
    for (_, D), names in families.items():
        points = [configurations[name].flatten(0, 1) for name in names]
        try:
            fitted = generalized.maps_into(generalized.generalised(points), points) if len(names) > 1 else ()
        except InputError:  # constant rows have no rotation
            fitted = ()
        rotations = [one.rotation.float() for one in fitted] or [torch.eye(D)] * len(names)
        found |= dict(zip(names, rotations, strict=True))
    return found


def _sectors(parts: Sequence[SpecPart]) -> Iterator[tuple[SpecPart, int, str]]:
    """Yield every sector as its part, its index there, and its name."""
    for part in parts:
        for place, name in enumerate(part.names):
            yield part, place, name
