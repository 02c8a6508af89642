"""Scale-invariant keypoints of a grey picture: extrema of differences of Gaussians, each with a normalised patch around it.

After Lowe, "Distinctive image features from scale-invariant keypoints" (2004), with the patches of Brown, Szeliski and Winder,
"Multi-image matching using multi-scale oriented patches" (2005) in place of histograms: a patch on a square grid is turned by
90 degrees or mirrored by renumbering its samples, so that pictures of any of the eight orientations compare.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SIGMA = 1.6  # of an octave's first image, in its pixels
LAYERS = 3  # scales of an octave
CONTRAST = 0.006  # smallest difference of Gaussians kept, of grey values in [0, 1]
EDGE = 12.1  # largest (trace^2 / determinant) of the Hessian kept: (r + 1)^2 / r at r = 10
SMALLEST = 24  # side of the last octave, in its pixels
MOST = 800  # keypoints of a picture, those of the greatest contrast
SIDE = 8  # samples of a patch, each way
SPACING = 1.9  # of samples, in units of the keypoint's scale


@dataclass(frozen=True, eq=False)
class Keypoints:
    """Where a picture has blobs, and what is around them.

    Attributes:
        at: (n, 2) x and y in pixels.
        scale: (n,) the Gaussian's sigma in pixels.
        patch: (n, SIDE, SIDE) of mean 0 and norm 1.
    """

    at: Tensor
    scale: Tensor
    patch: Tensor


def keypoints(grey: Tensor) -> Keypoints:
    """Keypoints of a picture (height, width) of values in [0, 1]."""
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
    """(1, LAYERS + 3, height, width): the image ever more blurred."""
    levels = [image]
    for layer in range(1, LAYERS + 3):
        before, after = (SIGMA * 2 ** (step / LAYERS) for step in (layer - 1, layer))
        levels.append(_blur(levels[-1], (after**2 - before**2) ** 0.5))
    return torch.cat(levels, dim=1)


def _of_octave(stack: Tensor, pixel: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Position, scale, patch and contrast of an octave's keypoints; ``pixel`` is the side of its pixels."""
    difference = stack[:, 1:] - stack[:, :-1]  # (1, LAYERS + 2, height, width)
    magnitude = difference.abs()
    _, layer, y, x = (_peaks(difference) | _peaks(-difference)).nonzero(as_tuple=True)
    round_ = _is_blob(difference[0], layer, y, x)
    layer, y, x = layer[round_], y[round_], x[round_]
    sigma = SIGMA * 2 ** (layer / LAYERS)
    at = torch.stack([x, y], dim=1).float()
    patch = _patches(stack[0], layer, at, sigma)
    # pixel i of an octave is the middle of pixel i * pixel of the picture
    return at * pixel, sigma * pixel, patch, magnitude[0, layer, y, x]


def _is_blob(difference: Tensor, layer: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Which peaks curve both ways, as an edge does not."""

    def value(dy: int, dx: int) -> Tensor:
        return difference[layer, y + dy, x + dx]

    xx = value(0, 1) + value(0, -1) - 2 * value(0, 0)
    yy = value(1, 0) + value(-1, 0) - 2 * value(0, 0)
    xy = (value(1, 1) + value(-1, -1) - value(1, -1) - value(-1, 1)) / 4
    determinant = xx * yy - xy**2
    return (determinant > 0) & ((xx + yy) ** 2 < EDGE * determinant)


def _patches(stack: Tensor, layer: Tensor, at: Tensor, sigma: Tensor) -> Tensor:
    """(n, SIDE, SIDE) samples around each keypoint, from the layer of its scale."""
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
    """Sums of shifted images: many times as fast as torch's convolution of one channel."""
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
    """Which of (1, layers, height, width) are the greatest of their 27 neighbours; none at a border."""
    inner = values
    for axis in (1, 2, 3):
        count = inner.shape[axis] - 2
        inner = torch.maximum(
            torch.maximum(inner.narrow(axis, 0, count), inner.narrow(axis, 2, count)), inner.narrow(axis, 1, count)
        )
    middle = values[:, 1:-1, 1:-1, 1:-1]
    return F.pad((middle == inner) & (middle > CONTRAST), (1, 1, 1, 1, 1, 1))
