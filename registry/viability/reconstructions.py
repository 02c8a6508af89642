"""Images of a cell's own probe beside their reconstructions, for the page of a report."""

from __future__ import annotations

import torch
from torch import Tensor

from batteries.data.probes import Probe
from batteries.model.patch_svae import PatchSVAE
from registry.reports.charts.png import png_pair
from registry.reports.viability_page import Reconstruction

SHOWN = 4


def reconstructions(model: PatchSVAE, own: Probe) -> tuple[Reconstruction, ...]:
    """Reconstruct four images, spread evenly over a probe."""
    chosen = torch.linspace(0, len(own.images) - 1, SHOWN, device="cpu").long()
    images = own.images[chosen]
    with torch.no_grad():
        found = model(images).recon
    names = [own.groups[group] for group in own.group[chosen].tolist()]
    return tuple(_reconstruction(*row) for row in zip(names, images, found, strict=True))


def _reconstruction(name: str, image: Tensor, found: Tensor) -> Reconstruction:
    return Reconstruction(name, *png_pair(image, found), float((found - image).square().mean()))
