"""Adaptation of a cell in its manifest: parent, host, dose, and the figures that were held. Does not import torch."""

from __future__ import annotations

from typing import Literal

from batteries.cell.field_types import Count, Positive, Sha256, Text
from batteries.io.canonical_json import Document

HeldRatio = tuple[float, float, float]  # after over before, and both 95% bounds


class HoldFigures(Document):
    """Terms and guard of an adaptation: :class:`composer.Hold`."""

    reconstruction: float
    cv: float
    anchor: float
    content: float
    every: Positive
    backoffs: Count
    guarded: bool


class Adaptation(Document):
    """Origin of a cell that another one became in a host.

    Attributes:
        parent: ``band/name@version`` of the cell it was.
        parent_digest: SHA-256 of that cell's weights file.
        host: Type of the host and number of its weights, those of its cells not counted.
        task: Task of the host.
        optimiser: Optimiser of the cell's weights.
        rate: Learning rate of the cell's weights at the start.
        host_rate: Learning rate of the host's weights at the start.
        steps: Steps up to the state that was kept.
        backoffs: Returns to an earlier state, each of which halved the cell's rate.
        ended: ``finished`` after all steps, or ``guard`` where the last return was used up.
        seed: Seed of everything random.
        hold: Terms and bounds; null for a raw gradient without either.
        dose: Sum of the learning rates over the steps.
        weight_change: Change of the weights, norm(dW) / norm(W).
        score: Score of the host on test images: accuracy, or R2 where images are restored.
        score_error: Standard error of the score.
        content: Share kept of the variance that the parent explained beyond the mean, on the images ``measured_on``.
        axial_cv: Axial CV over that of the parent on the own probe; null if degenerate.
        rank: Effective rank over that of the parent on the own probe.
        measured_on: Held-out images of the own domain.
    """

    parent: Text
    parent_digest: Sha256
    host: Text
    task: Text
    optimiser: Text
    rate: float
    host_rate: float
    steps: Positive
    backoffs: Count
    ended: Literal["finished", "guard"]
    seed: Count
    hold: HoldFigures | None
    dose: float
    weight_change: float
    score: float
    score_error: float | None
    content: float
    axial_cv: HeldRatio | None
    rank: HeldRatio
    measured_on: Text
