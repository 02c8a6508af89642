"""Images of a cell's own probe beside their reconstructions, for the page of a report."""

from __future__ import annotations

from io import BytesIO

import torch
from PIL import Image
from torch import Tensor

from batteries.data.probes import Probe
from batteries.model.patch_svae import PatchSVAE
from registry.reports.viability_page import Reconstruction

SHOWN = 4
TAILS = 0.01  # share of values beyond either end of the scale: noise has a few extreme ones


def reconstructions(model: PatchSVAE, own: Probe) -> tuple[Reconstruction, ...]:
    """Reconstruct four images, spread evenly over a probe."""
    chosen = torch.linspace(0, len(own.images) - 1, SHOWN, device="cpu").long()
    images = own.images[chosen]
    with torch.no_grad():
        found = model(images).recon
    names = [own.groups[group] for group in own.group[chosen].tolist()]
    return tuple(_reconstruction(*row) for row in zip(names, images, found, strict=True))


def _reconstruction(name: str, image: Tensor, found: Tensor) -> Reconstruction:
    low, high = torch.quantile(image, torch.tensor([TAILS, 1 - TAILS], dtype=image.dtype, device="cpu")).tolist()
    scale = max(high - low, 1e-6)
    original, result = (_png((values - low) / scale) for values in (image, found))
    return Reconstruction(name, original, result, float((found - image).square().mean()))


def _png(image: Tensor) -> bytes:
    """Write an image (channels, height, width) in [0, 1] as PNG; values beyond are clipped."""
    pixels = (image.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    file = BytesIO()
    Image.fromarray(pixels.numpy()).save(file, format="PNG")
    return file.getvalue()
