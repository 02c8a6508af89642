"""Images of a cell's own probe beside their reconstructions, as PNG. Of large images the middle is shown."""

from __future__ import annotations

import torch
from torch import Tensor

from batteries.cell.cell import Cell
from batteries.data.probes import Probe, probe
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from batteries.images.rescaling import from_input, to_input
from batteries.model.patch_svae import PatchSVAE
from registry.reports.charts.png import png_pair
from registry.reports.viability_page import Reconstruction

SHOWN = 4
SIDE = 128  # largest side of a picture, in pixels


@neutral()
@torch.no_grad()
def pictures(cell: Cell) -> tuple[Reconstruction, ...]:
    """Reconstruct four images, spread evenly over the cell's own probe; none if it cannot take them.

    The error of each is that of the whole image.
    """
    images, names = _images(cell)
    if (
        not len(images)
        or images.shape[1] != cell.spec.channels
        or any(side % cell.spec.patch_size for side in images.shape[2:])
    ):
        return ()
    scale = cell.manifest.identity.input
    found = from_input(PatchSVAE.from_cell(cell)(to_input(images, scale)).recon, scale)
    return tuple(_picture(*row) for row in zip(names, images, found, strict=True))


def _images(cell: Cell) -> tuple[Tensor, list[str]]:
    """Return images of the own probe, and the names of their groups; none of a probe that this version does not have."""
    try:
        own: Probe = probe(cell.manifest.own_probe)
    except InputError:
        return torch.empty(0), []
    chosen = torch.linspace(0, len(own.images) - 1, SHOWN, device="cpu").long()
    return own.images[chosen], [own.groups[group] for group in own.group[chosen].tolist()]


def _picture(name: str, image: Tensor, found: Tensor) -> Reconstruction:
    return Reconstruction(name, *png_pair(_middle(image), _middle(found)), float((found - image).square().mean()))


def _middle(image: Tensor) -> Tensor:
    top, left = (max(0, (side - SIDE) // 2) for side in image.shape[1:])
    return image[:, top : top + SIDE, left : left + SIDE]
