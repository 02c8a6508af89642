"""Detection of photographs that overlap with a probe's: any crop, scale, format, mirror image or rotation by 90 degrees.

Two tests. Keypoints of a picture and of a probe's photograph that match by their patches and agree on one similarity transform
prove a common part with enough detail. A high-pass thumbnail recognises a single image of a probe, which is too small for many
keypoints. Rates of detection and of false alarms: docs/decisions/0020-probe-photographs.md.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from batteries.data.keypoints import Keypoints, keypoints
from batteries.data.photos import Photos, to_tensor
from batteries.data.probes import photographs, probe
from batteries.images.decoding import read_image

LONGEST, SHORTEST = 640, 256  # longest side that keypoints are searched at; a picture smaller than the second is doubled
ALIKE = 0.9  # smallest correlation of two patches that match
FACTOR = math.log(1.35)  # largest difference in log scale of two matches that agree
ENOUGH = 7  # agreeing matches required; unrelated photographs reach at most 4
THUMB, SLOW = 16, 4  # side of a thumbnail; degree below which its polynomials are removed
SAME = 0.96  # smallest correlation of two thumbnails of one image
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601
PHOTO_PROBES = ("photos-64", "photos-256")
TURNS = tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4))


@dataclass(frozen=True, eq=False)
class _Known:
    """Photographs of the probes, and the images cut from them."""

    names: tuple[str, ...]
    keypoints: tuple[Keypoints, ...]
    cut: tuple[str, ...]  # name of the photograph of each image
    thumbs: Tensor  # (n, THUMB * THUMB)


def shown(photos: Photos) -> dict[str, str]:
    """Map each photograph that overlaps with a probe's to the name of the probe's photograph."""
    found = {name: shown_by(pyramid) for name, pyramid in zip(photos.names, photos.pyramids, strict=True)}
    return {name: known for name, known in found.items() if known is not None}


@torch.no_grad()
def shown_by(pyramid: Sequence[Tensor]) -> str | None:
    """Return the name of the probe's photograph that a picture overlaps with, or None.

    Args:
        pyramid: Scales of the picture, each (3, height, width) uint8, largest first.
    """
    known = _known()
    alike, place = (_thumbs(pyramid[0]) @ known.thumbs.T).flatten().max(dim=0)
    if float(alike) > SAME:
        return known.cut[int(place) % len(known.cut)]
    own = _keypoints_of(pyramid)
    counts = [agreeing(own, other) for other in known.keypoints]
    most = max(range(len(counts)), key=counts.__getitem__)
    return known.names[most] if counts[most] >= ENOUGH else None


def agreeing(mine: Keypoints, other: Keypoints) -> int:
    """Count the matches of two pictures that agree on one similarity transform, in the best of the eight orientations."""
    if min(len(mine.at), len(other.at)) < ENOUGH:
        return 0
    flat, most = mine.patch.flatten(1), 0
    for turns, mirrored in TURNS:
        patch, at = _turned(other, turns, mirrored)
        alike, place = (flat @ patch.T).max(dim=1)
        good = (alike > ALIKE).nonzero()[:, 0]
        if len(good) >= ENOUGH:
            place = place[good]
            most = max(most, _consistent(mine.at[good], mine.scale[good], at[place], other.scale[place], place))
    return most


def _turned(points: Keypoints, turns: int, mirrored: bool) -> tuple[Tensor, Tensor]:
    """Return patches (n, samples) and positions (n, 2) after an optional left-right flip and ``turns`` rotations by 90 deg."""
    patch, (x, y) = points.patch, points.at.T
    if mirrored:
        patch, x = patch.flip(2), -x
    for _ in range(turns):
        x, y = y, -x
    return patch.rot90(turns, (1, 2)).flatten(1), torch.stack([x, y], dim=1)


def _consistent(at: Tensor, scale: Tensor, source: Tensor, source_scale: Tensor, place: Tensor) -> int:
    """Count the matches that one transform ``at = s * source + t`` explains, at most; the three best guesses are refined."""
    ratio = scale / source_scale
    guessed = at[:, None] + ratio[:, None, None] * (source[None] - source[:, None])  # row i: transform of match i
    off = (guessed - at[None]).norm(dim=2)
    slack = 3 * scale[None] + 0.15 * (at[None] - at[:, None]).norm(dim=2)
    logs = ratio.log()
    agree = (off < slack) & ((logs[None] - logs[:, None]).abs() < FACTOR)
    guesses = agree.sum(dim=1).argsort(descending=True)[:3]
    return max(_refined(agree[guess], at, scale, source, logs, place) for guess in guesses.tolist())


def _refined(inlier: Tensor, at: Tensor, scale: Tensor, source: Tensor, logs: Tensor, place: Tensor) -> int:
    """Count the matches that remain after three rounds of least squares; a keypoint matched twice counts once."""
    for _ in range(3):
        if int(inlier.sum()) < ENOUGH:
            return 0
        p, q = source[inlier], at[inlier]
        p_mean, q_mean = p.mean(dim=0), q.mean(dim=0)
        s = ((p - p_mean) * (q - q_mean)).sum() / (p - p_mean).square().sum().clamp_min(1e-9)
        if float(s) <= 0:
            return 0
        off = ((source - p_mean) * s + q_mean - at).norm(dim=1)
        inlier = (off < 1 + scale) & ((logs - s.log()).abs() < FACTOR)
    return min(len(place[inlier].unique()), len(at[inlier].unique(dim=0)))


@functools.cache
def _known() -> _Known:
    paths = photographs()
    pictures = [to_tensor(read_image(path)) for path in paths]
    probes = [probe(name) for name in PHOTO_PROBES]
    cut = tuple(one.groups[int(group)] for one in probes for group in one.group)
    thumbs = [_thumbs((image + 1) * 127.5)[0] for one in probes for image in one.images]
    return _Known(tuple(path.stem for path in paths), tuple(_keypoints_of([one]) for one in pictures), cut, torch.stack(thumbs))


def _keypoints_of(pyramid: Sequence[Tensor]) -> Keypoints:
    picture = next((scale for scale in reversed(pyramid) if max(scale.shape[1:]) >= LONGEST), pyramid[0])
    grey, longest = _grey(picture), max(picture.shape[1:])
    factor = LONGEST / longest if longest > LONGEST else 2 if longest < SHORTEST else 1
    return keypoints(_resized(grey, max(1, round(grey.shape[0] * factor)), max(1, round(grey.shape[1] * factor))))


def _grey(picture: Tensor) -> Tensor:
    """Convert an RGB picture (3, height, width) of 0..255 to grey (height, width) in [0, 1]."""
    return torch.einsum("chw,c->hw", picture.float(), torch.tensor(GREY, dtype=torch.float32)) / 255


def _resized(grey: Tensor, height: int, width: int) -> Tensor:
    if grey.shape == (height, width):
        return grey
    return F.interpolate(grey[None, None], size=(height, width), mode="bilinear", antialias=True)[0, 0]


def _thumbs(picture: Tensor) -> Tensor:
    """Return the high-pass thumbnail of a picture in its eight orientations, (8, THUMB * THUMB), each of norm 1."""
    thumb = _resized(_grey(picture), THUMB, THUMB)
    flat = thumb.flatten() - _slow() @ (_slow().T @ thumb.flatten())
    own = (flat / flat.norm().clamp_min(1e-6)).view(THUMB, THUMB)
    return torch.stack([(own.flip(1) if mirrored else own).rot90(turns, (0, 1)).flatten() for turns, mirrored in TURNS])


@functools.cache
def _slow() -> Tensor:
    """Return an orthonormal basis of the polynomials in two variables of degree below SLOW, (THUMB * THUMB, 10)."""
    side = np.linspace(-1, 1, THUMB)
    powers = [np.multiply.outer(side**i, side**j).ravel() for i in range(SLOW) for j in range(SLOW - i)]
    return torch.from_numpy(np.linalg.qr(np.stack(powers, axis=1))[0].astype(np.float32))
