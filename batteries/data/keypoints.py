"""Scale-invariant keypoints of a grey image: extrema of differences of Gaussians, each with a normalised patch around it.

After Lowe, "Distinctive image features from scale-invariant keypoints" (2004), with the patches of Brown, Szeliski and Winder,
"Multi-image matching using multi-scale oriented patches" (2005) instead of histograms: a patch on a square grid is rotated by
90 degrees or mirrored by reordering its samples, so that images in any of the eight orientations can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SIGMA = 1.6  # blur of an octave's first image, in its pixels
LAYERS = 3  # scales per octave
CONTRAST = 0.006  # smallest difference of Gaussians kept, for grey values in [0, 1]
EDGE = 12.1  # largest (trace^2 / determinant) of the Hessian kept: (r + 1)^2 / r at r = 10
SMALLEST = 24  # smallest side of an octave, in its pixels
MOST = 800  # keypoints kept of an image, by contrast
SIDE = 8  # samples along each side of a patch
SPACING = 1.9  # distance between samples, in units of the keypoint's scale


@dataclass(frozen=True, eq=False)
class Keypoints:
    """Blobs of an image, with the patches around them.

    Attributes:
        at: Positions (n, 2), x and y in pixels.
        scale: Sigma of the Gaussian (n,) in pixels.
        patch: Patches (n, SIDE, SIDE) of mean 0 and norm 1.
    """

    at: Tensor
    scale: Tensor
    patch: Tensor


def keypoints(grey: Tensor) -> Keypoints:
    """Find the keypoints of a grey image (height, width) of values in [0, 1]."""
    image = _blur(grey[None, None], (SIGMA**2 - 0.5**2) ** 0.5)
    found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    pixel = 1.0
    while min(image.shape[-2:]) >= SMALLEST:
        stack = _stack(image)
        found.append(_of_octave(stack, pixel))
        image, pixel = stack[:, LAYERS : LAYERS + 1, ::2, ::2], 2 * pixel
    if not found:
        return Keypoints(torch.zeros(0, 2), torch.zeros(0), torch.zeros(0, SIDE, SIDE))
    at, scale, patch, contrast = (torch.cat(part) for part in zip(*found, strict=True))
    strongest = contrast.argsort(descending=True, stable=True)[:MOST]
    return Keypoints(at[strongest], scale[strongest], patch[strongest])


def _stack(image: Tensor) -> Tensor:
    """Return an image at increasing blur, (1, LAYERS + 3, height, width)."""
    levels = [image]
    for layer in range(1, LAYERS + 3):
        before, after = (SIGMA * 2 ** (step / LAYERS) for step in (layer - 1, layer))
        levels.append(_blur(levels[-1], (after**2 - before**2) ** 0.5))
    return torch.cat(levels, dim=1)


def _of_octave(stack: Tensor, pixel: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return position, scale, patch and contrast of the keypoints of an octave whose pixels have side ``pixel``."""
    difference = stack[:, 1:] - stack[:, :-1]  # (1, LAYERS + 2, height, width)
    magnitude = difference.abs()
    _, layer, y, x = (_peaks(difference) | _peaks(-difference)).nonzero(as_tuple=True)
    round_ = _is_blob(difference[0], layer, y, x)
    layer, y, x = layer[round_], y[round_], x[round_]
    sigma = SIGMA * 2 ** (layer / LAYERS)
    at = torch.stack([x, y], dim=1).float()
    patch = _patches(stack[0], layer, at, sigma)
    # pixel i of an octave has its centre at pixel i * pixel of the image
    return at * pixel, sigma * pixel, patch, magnitude[0, layer, y, x]


def _is_blob(difference: Tensor, layer: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Mark the peaks that curve in both directions, unlike an edge."""

    def value(dy: int, dx: int) -> Tensor:
        return difference[layer, y + dy, x + dx]

    xx = value(0, 1) + value(0, -1) - 2 * value(0, 0)
    yy = value(1, 0) + value(-1, 0) - 2 * value(0, 0)
    xy = (value(1, 1) + value(-1, -1) - value(1, -1) - value(-1, 1)) / 4
    determinant = xx * yy - xy**2
    return (determinant > 0) & ((xx + yy) ** 2 < EDGE * determinant)


def _patches(stack: Tensor, layer: Tensor, at: Tensor, sigma: Tensor) -> Tensor:
    """Sample a patch (n, SIDE, SIDE) around each keypoint, from the layer of its scale."""
    height, width = stack.shape[-2:]
    steps = (torch.arange(SIDE) - (SIDE - 1) / 2) * SPACING
    patch = torch.zeros(len(at), SIDE, SIDE)
    for one in layer.unique().tolist():
        here = layer == one
        xs = at[here, 0, None, None] + sigma[here, None, None] * steps[None, None, :]
        ys = at[here, 1, None, None] + sigma[here, None, None] * steps[None, :, None]
        grid = torch.stack(torch.broadcast_tensors(2 * xs / (width - 1) - 1, 2 * ys / (height - 1) - 1), dim=-1)
        flat = grid.reshape(1, -1, SIDE, 2)  # (1, n * SIDE, SIDE, 2)
        sampled = F.grid_sample(stack[None, one : one + 1], flat, padding_mode="border", align_corners=True)
        patch[here] = sampled.reshape(-1, SIDE, SIDE)
    centred = patch - patch.mean(dim=(1, 2), keepdim=True)
    return centred / centred.norm(dim=(1, 2), keepdim=True).clamp_min(1e-6)


def _blur(image: Tensor, sigma: float) -> Tensor:
    """Blur by sums of shifted images, many times faster than torch's convolution of one channel."""
    reach = max(1, int(3 * sigma + 0.5))
    kernel = torch.exp(-((torch.arange(-reach, reach + 1) / sigma) ** 2) / 2)
    weights = (kernel / kernel.sum()).tolist()
    for axis in (2, 3):
        wide = F.pad(image, (reach, reach, 0, 0) if axis == 3 else (0, 0, reach, reach), mode="replicate")
        image = wide.narrow(axis, 0, image.shape[axis]) * weights[0]
        for step, weight in enumerate(weights[1:], start=1):
            image.add_(wide.narrow(axis, step, image.shape[axis]), alpha=weight)
    return image


def _peaks(values: Tensor) -> Tensor:
    """Mark the values (1, layers, height, width) that are the maximum of their 3 x 3 x 3 neighbourhood; none at a border."""
    inner = values
    for axis in (1, 2, 3):
        count = inner.shape[axis] - 2
        inner = torch.maximum(
            torch.maximum(inner.narrow(axis, 0, count), inner.narrow(axis, 2, count)), inner.narrow(axis, 1, count)
        )
    middle = values[:, 1:-1, 1:-1, 1:-1]
    return F.pad((middle == inner) & (middle > CONTRAST), (1, 1, 1, 1, 1, 1))
