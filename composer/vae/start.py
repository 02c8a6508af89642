"""Start of a battery VAE on its cells' own statistics: principal axes, mean configurations and consensus maps.

Decompositions happen here, once, and in no step of a training.
Legend: C sectors, B images, N patches of an image, K arrays, V rows, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from batteries.cell.cell import Cell
from batteries.data.sources import seed_of
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from batteries.model import spectral
from composer.adaptation.domains import own_domain
from composer.procrustes import generalized
from composer.vae.spec_part import SpecPart, cosines

OWN = 21  # purpose of seeds
FEW = 16  # images that scores are settled on
DEVIATION = 1e-4  # smallest deviation of a score that a sharpness is taken from
IMAGES, SIDE = 32, 64  # images of a cell's own domain, and their least side
PATCHES = 4096  # most matrices of a cell whose axes are taken


def own_images(cells: Mapping[str, Cell], seed: int) -> dict[tuple[str, ...], Tensor]:
    """Draw images (B, channels, height, width) of the cells' own domains, by the names of the cells of each domain."""
    domains: dict[str, list[str]] = {}
    for name, cell in cells.items():
        domains.setdefault(cell.manifest.own_probe, []).append(name)
    unit = math.lcm(*(cell.spec.patch_size for cell in cells.values()))
    side = unit * -(-SIDE // unit)
    return {
        tuple(names): own_domain(cells[names[0]]).source.batch(seed_of(seed, 0, OWN), IMAGES, side)
        for names in domains.values()
    }


@neutral()
@torch.no_grad()
def begin(parts: Sequence[SpecPart], images: Mapping[tuple[str, ...], Tensor], given: Mapping[str, Tensor] | None) -> None:
    """Start bottlenecks, arrays and maps.

    Args:
        parts: Parts of the model.
        images: Images by the names of the sectors whose own domain they are of.
        given: Arrays (K, V, D) of each sector in its own coordinates; by default mean configurations.
    """
    configurations: dict[str, Tensor] = {}
    shown = {name: own for names, own in images.items() for name in names}
    for part, place, name in _sectors(parts):
        M = part.sectors.encode_one(place, shown[name]).M[0]
        matrices = M.flatten(0, 1)
        part.bottleneck.start(place, matrices[:: max(1, len(matrices) // PATCHES)])
        K = part.arrays.points.shape[1]
        means = torch.stack([part_of.mean(dim=(0, 1)) for part_of in M.tensor_split(K)]) if given is None else given[name]
        configurations[name] = spectral.unit_rows(means.float())
    maps = consensus_maps(parts, configurations)
    for part, place, name in _sectors(parts):
        part.arrays.place(place, configurations[name], maps[name])


@torch.no_grad()
def settle(parts: Sequence[SpecPart], log_sharpness: Tensor, images: Mapping[tuple[str, ...], Tensor]) -> None:
    """Set sharpness and references by the arrays' cosines on their sectors' own domains.

    Args:
        parts: Parts of the model, begun.
        log_sharpness: Logarithm of the sharpness, to be set to one over the mean standard deviation of these cosines.
        images: Images by the names of the sectors whose own domain they are of.
    """
    deviations: list[Tensor] = []
    for names, own in images.items():
        few = own[:FEW]
        M = [part.sectors.encode(few).M for part in parts]
        found = cosines(parts, M, [part.spec.grid(*few.shape[2:]) for part in parts])
        for part, score in zip(parts, found, strict=True):
            for place in (place for place, name in enumerate(part.names) if name in names):
                part.arrays.reference[place] = score[:, :, place].mean(dim=(0, 1))
                deviations.append(score[:, :, place].std(dim=(0, 1)).mean())
    sharpness = 1 / torch.stack(deviations).mean().clamp_min(DEVIATION)
    log_sharpness.copy_(sharpness.log())
    for part in parts:
        part.arrays.reference.mul_(sharpness)


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
