"""Plan of a training run: everything except the data that determines its result."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from batteries.cell.manifest import Sha256, Text
from batteries.cell.spec import CellSpec
from batteries.io.canonical_json import Document

Schedule = Literal["constant", "cosine", "onecycle"]
WARM_UP = 0.1  # share of a one-cycle run spent rising
FINAL_RATE = 0.01  # share of the peak rate at the end of cosine and one-cycle


class Plan(Document):
    """Settings that determine the result of a run, together with the data.

    Attributes:
        size: Side of the training images, in pixels.
        steps: Optimiser steps.
        batch: Images per step.
        rate: Peak learning rate of Adam (no weight decay).
        schedule: Schedule of the learning rate.
        clip: Largest norm of the gradient.
        seed: Seed of weights, data and draws.
        boost: Strength of the soft hand: the loss is (1 + boost * prox) * mse, prox a Gaussian of the relative distance of the
            average CV from the exact attractor; no gradient passes through prox. 0 turns it off.
        sigma: Width of the soft hand's Gaussian.
        triage_step: Step at which the band is checked; a run in the wrong band stops there.
        reading_every: Steps between readings of the trajectory.
        checkpoint_every: Steps between checkpoints.
        start: Digest of the cell whose weights the run starts from; by default a seeded untrained cell.

    >>> import batteries
    >>> plan = batteries.Plan(spec=batteries.CellSpec.preset("high"), size=64, steps=4000, rate=3e-3, schedule="cosine")
    >>> plan.batch, plan.rate_at(0)
    (128, 0.003)
    """

    spec: CellSpec
    size: Annotated[int, Field(ge=1, le=4096)]
    steps: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)] = 128
    rate: Annotated[float, Field(gt=0)] = 1e-3
    schedule: Schedule = "onecycle"
    clip: Annotated[float, Field(gt=0)] = 1.0
    seed: Annotated[int, Field(ge=0)] = 0
    boost: Annotated[float, Field(ge=0)] = 0.5
    sigma: Annotated[float, Field(gt=0)] = 0.15
    triage_step: Annotated[int, Field(ge=1)] = 1000
    reading_every: Annotated[int, Field(ge=1)] = 250
    checkpoint_every: Annotated[int, Field(ge=1)] = 250
    start: Sha256 | None = None

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        done = step / self.steps
        if self.schedule == "constant":
            return self.rate
        if self.schedule == "onecycle" and done < WARM_UP:
            return self.rate * (FINAL_RATE + (1 - FINAL_RATE) * done / WARM_UP)
        start = WARM_UP if self.schedule == "onecycle" else 0.0
        falling = (1 + math.cos(math.pi * (done - start) / (1 - start))) / 2
        return self.rate * (FINAL_RATE + (1 - FINAL_RATE) * falling)

    def describe(self) -> tuple[Text, Text, Text]:
        """Describe optimiser, schedule and soft hand for the manifest."""
        hand = "off" if self.boost == 0 else f"boost {self.boost:g}, sigma {self.sigma:g}, target exact sphere CV"
        start = f", started from the cell sha256:{self.start}" if self.start else ""
        return f"Adam {self.rate:g}, no weight decay, gradient norm at most {self.clip:g}{start}", self.schedule, hand
