"""Pictures that show what a probe's photographs show: any crop, scale, format, mirror image or quarter turn of them.

Keypoints of the two are matched by their patches; matches that agree on one similarity transform prove the overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from batteries.keypoints import SIDE, Keypoints

ALIKE = 0.9  # smallest correlation of two patches that match
SCALES = 1.35  # largest disagreement of two matches about the scale
REACH = 3.0  # largest distance from where the transform says, in units of a keypoint's scale
SLOPE = 0.03  # and of the distance from the middle of the matches


@dataclass(frozen=True)
class Turned:
    """One of the eight orientations of a picture: (x, y) goes to (x, y) @ matrix."""

    matrix: Tensor
    quarter_turns: int
    mirrored: bool


def orientations():
    found = []
    for mirrored in (False, True):
        for turns in range(4):
            # of a patch: flip left-right, then rot90 (counter-clockwise) `turns` times
            matrix = torch.tensor([[-1.0 if mirrored else 1.0, 0.0], [0.0, 1.0]])
            quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]])  # row vectors: (x, y) -> (y, -x)
            for _ in range(turns):
                matrix = matrix @ quarter
            found.append(Turned(matrix, turns, mirrored))
    return found

TURNS = orientations()

def turned(patch: Tensor, turn: Turned) -> Tensor:
    if turn.mirrored:
        patch = patch.flip(2)
    return patch.rot90(turn.quarter_turns, (1, 2))


def agreeing(mine: Keypoints, other: Keypoints, others_patches=None) -> int:
    """The most matches that agree on one transform."""
    best = 0
    if min(len(mine.at), len(other.at)) == 0:
        return 0
    flat = mine.patch.flatten(1)
    for turn in TURNS:
        alike = flat @ turned(other.patch, turn).flatten(1).T
        value, index = alike.max(dim=1)
        good = (value > ALIKE).nonzero()[:, 0]
        if len(good) < 4:
            continue
        best = max(best, _consistent(mine.at[good], mine.scale[good], other.at[index[good]] @ turn.matrix, other.scale[index[good]], index[good]))
    return best


def _consistent(at: Tensor, scale: Tensor, from_: Tensor, from_scale: Tensor, which: Tensor) -> int:
    ratio = scale / from_scale
    factor = ratio.log()
    # hypotheses i (rows), matches j (columns)
    predicted = (from_[None] - from_[:, None]) * ratio[:, None, None] + at[:, None]
    distance = (predicted - at[None]).norm(dim=2)
    away = (at[None] - at[:, None]).norm(dim=2)
    agree = (factor[None] - factor[:, None]).abs() < torch.tensor(SCALES).log()
    agree &= distance < REACH * scale[None] + 0.15 * away
    votes = agree.sum(1)
    best = 0
    for i in votes.argsort(descending=True)[:3].tolist():
        inliers = agree[i]
        for _ in range(3):
            if inliers.sum() < 3:
                break
            p, q = from_[inliers], at[inliers]
            pm, qm = p.mean(0), q.mean(0)
            denominator = (p - pm).square().sum()
            if denominator <= 0:
                break
            s = ((p - pm) * (q - qm)).sum() / denominator
            if s <= 0:
                break
            residual = ((from_ - pm) * s + qm - at).norm(dim=1)
            inliers = (residual < 1.0 + 1.0 * scale + SLOPE*0) & ((factor - s.log()).abs() < torch.tensor(SCALES).log())
        else:
            best = max(best, min(len(which[inliers].unique()), len(at[inliers].round().unique(dim=0))))
    return best
