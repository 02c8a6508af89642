"""Images of other sizes, and images encoded whole against their tiles encoded apart.

Both compare the same pixels twice, once as part of a large image and once of a small one, so that no content differs: only
cross-attention over the patches of an image, and the smoothing at its borders.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from torch import Generator, Tensor

from batteries.cell.manifest import OWN_MIX, Domain, NoiseMix
from batteries.data.photos import to_float
from batteries.data.probes import photographs
from batteries.data.sources import seed_of
from batteries.diagnostics.diagnosis.coders import Coder
from batteries.diagnostics.diagnosis.findings import Finding, exact, plain
from batteries.diagnostics.figures import Definition, Figure, jackknifed
from batteries.images.decoding import read_image
from batteries.noise import NAMES, of_types

RESOLUTION, TILES = "resolution", "tiles"
SIZE = Definition(
    "size",
    "error over training size",
    RESOLUTION,
    "mean squared error / that of the same pixels at the training size",
)
OMEGA = Definition("tile-omega", "distance of omega", TILES, "norm(omega of whole - omega of tiles) / norm(omega of tiles)")
S = Definition("tile-S", "distance of S", TILES, "norm(S of whole - S of tiles) / norm(S of tiles)")
RECON = Definition(
    "tile-recon",
    "difference of images",
    TILES,
    "sum (recon of whole - recon of tiles)^2 / sum (recon of tiles - image)^2",
)
SIDES = (36, 64, 128, 256, 512, 1024)
GRID = 4  # tiles of an image in each direction
TILED = 8  # images that are cut in tiles
LEAST = 8  # images that can be the clusters of an error; tiles are where there are fewer
SIZE_SEED = 31  # purpose in seed_of, distinct from others
FEW_TYPES = ("quadrants", "blocks")  # noise of the largest images: four laws in one, and one that is drawn in squares
ROUNDING = 1e-5  # of S, float32 rows that were multiplied in batches of other sizes


def sizes(patch: int, size: int, largest: int = 1024) -> tuple[int, ...]:
    """Return the multiples of a patch size that are nearest to 36 to 1024 pixels, without the training size.

    >>> sizes(4, 64), sizes(16, 64, largest=256)
    ((36, 128, 256, 512, 1024), (32, 128, 256))
    """
    found = dict.fromkeys(max(1, round(side / patch)) * patch for side in SIDES if side <= largest)
    return tuple(side for side in found if side != size)


def by_size(coder: Coder, home: Domain, size: int, mix: NoiseMix = OWN_MIX, largest: int = 1024) -> list[Finding]:
    """Compare the error at other sizes with that of the same pixels at the training size.

    The error's clusters are images, or tiles where there are fewer than 8 images.
    """
    return [_at(coder, home, side, size, mix) for side in sizes(coder.spec.patch_size, size, largest)]


def by_tile(coder: Coder, home: Domain, size: int, mix: NoiseMix = OWN_MIX) -> list[Finding]:
    """Compare images of 4 by 4 tiles, encoded whole, with each tile encoded alone."""
    images, fold = wholes(home, GRID * size, TILED, mix)
    tiles, folds = cut(images, size), None if fold is None else fold.repeat_interleave(GRID**2)
    grid = size // coder.spec.patch_size
    cluster = torch.arange(len(images))
    findings = []
    wide, narrow = coder.tokens(images, fold), coder.tokens(tiles, folds)
    for definition, whole, apart in zip((S, OMEGA), wide, narrow, strict=True):
        apart = rearrange(apart, "(B a b) (h w) D -> B (a h b w) D", a=GRID, b=GRID, h=grid, w=grid)
        sums = torch.stack([_squares(whole - apart), _squares(apart)], dim=1)
        findings.append(jackknifed(definition, sums, cluster, lambda s: (s[..., 0] / s[..., 1]).sqrt()))
    mixed, apart = coder.reconstruct(images, fold), joined(coder.reconstruct(tiles, folds), GRID)
    sums = torch.stack([_squares(mixed - apart), _squares(apart - images)], dim=1)
    recon = jackknifed(RECON, sums, cluster, lambda s: s[..., 0] / s[..., 1])
    control, omega = findings
    return [plain(omega), _control(control), plain(recon)]


def wholes(home: Domain, side: int, count: int, mix: NoiseMix = OWN_MIX) -> tuple[Tensor, Tensor | None]:
    """Return large images of a domain, and the half of the photographs that they are of.

    Noise has one type an image. Photographs are continued beyond their borders by reflection.

    Args:
        home: Domain of the images.
        side: Side in pixels.
        count: Number of images, 1 to 16.
        mix: Mix of the noise.

    Returns:
        Images (count, 3, side, side), and folds (count,), None of noise.
    """
    if home == "noise":
        spread = torch.linspace(0, len(NAMES) - 1, count).round().long()
        types = spread if count > len(FEW_TYPES) else torch.tensor([NAMES.index(name) for name in FEW_TYPES[:count]])
        return of_types(types, (side, side), Generator().manual_seed(seed_of(side, 0, SIZE_SEED)), mix=mix), None
    paths = photographs()
    chosen = torch.linspace(0, len(paths) - 1, count).round().long()
    images = [_continued(np.asarray(read_image(paths[index])), side) for index in chosen.tolist()]
    return to_float(torch.stack(images)), chosen % 2


def cut(images: Tensor, side: int) -> Tensor:
    """Cut images (B, C, height, width) into tiles (B a b, C, side, side), without the rest at the lower and right edge."""
    rows, columns = images.shape[2] // side, images.shape[3] // side
    return rearrange(images[..., : rows * side, : columns * side], "B C (a h) (b w) -> (B a b) C h w", h=side, w=side)


def joined(tiles: Tensor, grid: int) -> Tensor:
    """Join tiles (B a b, C, side, side) to images, the inverse of :func:`cut`."""
    return rearrange(tiles, "(B a b) C h w -> B C (a h) (b w)", a=grid, b=grid)


def _at(coder: Coder, home: Domain, side: int, size: int, mix: NoiseMix) -> Finding:
    """Compare one size with the training size."""
    large, small = max(side, size), min(side, size)
    images, fold = wholes(home, large, 16 if large <= 256 else 2 if large <= 512 else 1, mix)
    tiles = cut(images, small)
    per_image = len(tiles) // len(images)
    folds = None if fold is None else fold.repeat_interleave(per_image)
    apart = (coder.reconstruct(tiles, folds) - tiles).double().square().mean(dim=(1, 2, 3))
    whole = (cut(coder.reconstruct(images, fold), small) - tiles).double().square().mean(dim=(1, 2, 3))
    sums = torch.stack([whole, apart] if side == large else [apart, whole], dim=1)
    cluster = torch.arange(len(tiles)) // (per_image if len(images) >= LEAST else 1)
    return plain(jackknifed(SIZE, sums, cluster, lambda s: s[..., 0] / s[..., 1], f"{side} pixels"))


def _control(figure: Figure) -> Finding:
    """Return the distance of S as the exact figure that it is: 0 up to rounding, since the encoder reads each patch alone."""
    if figure.value is None:
        return Finding(figure)
    found = exact(figure.definition, figure.value).figure
    return Finding(Figure(found.definition, value=found.value, tolerance=ROUNDING))


def _continued(picture: np.ndarray, side: int) -> Tensor:
    """Cut the upper left square of a picture (height, width, 3), continued by reflection if it is smaller."""
    missing: Sequence[tuple[int, int]] = [(0, max(0, side - length)) for length in picture.shape[:2]]
    whole = np.pad(picture, [*missing, (0, 0)], mode="reflect")[:side, :side]
    return torch.from_numpy(whole.copy()).permute(2, 0, 1)


def _squares(values: Tensor) -> Tensor:
    return values.double().square().flatten(1).sum(dim=1)
