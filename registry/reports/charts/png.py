"""Images of a page as PNG, and as addresses that hold their bytes."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

import torch
from PIL import Image
from torch import Tensor

TAILS = 0.01  # share of values beyond either end of the scale: noise has a few extreme ones


def png(image: Tensor) -> bytes:
    """Write an image (channels, height, width) in [0, 1] as PNG; values beyond are clipped."""
    pixels = (image.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    file = BytesIO()
    Image.fromarray(pixels.numpy()).save(file, format="PNG")
    return file.getvalue()


def png_pair(image: Tensor, found: Tensor) -> tuple[bytes, bytes]:
    """Write an image and its reconstruction (channels, height, width) on the scale of the image's brightness."""
    low, high = torch.quantile(image, torch.tensor([TAILS, 1 - TAILS], dtype=image.dtype, device="cpu")).tolist()
    scale = max(high - low, 1e-6)
    original, result = (png((values - low) / scale) for values in (image, found))
    return original, result


def heat_png(values: Tensor) -> bytes:
    """Write a map (rows, columns) as PNG, from dark blue at its least to yellow at its largest value."""
    low, high = float(values.min()), float(values.max())
    share = (values.float() - low) / max(high - low, 1e-12)
    stops = torch.tensor([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]) / 255  # viridis
    place = share * (len(stops) - 1)
    left = place.floor().long().clamp(0, len(stops) - 2)
    colours = torch.lerp(stops[left], stops[left + 1], (place - left)[..., None])  # (rows, columns, 3)
    return png(colours.permute(2, 0, 1))


def data_uri(found: bytes) -> str:
    """Return the address that holds a PNG's bytes."""
    return f"data:image/png;base64,{b64encode(found).decode()}"
