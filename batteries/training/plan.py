"""Plan of a training run: everything except the data that determines its result."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from batteries.cell.manifest import Sha256, Text
from batteries.cell.spec import CellSpec
from batteries.io.canonical_json import GrownDocument

Optimiser = Literal["adam", "adamw", "sgd", "muon"]
Schedule = Literal["constant", "cosine", "onecycle"]
# Rates that a command without one stands for, also in published manifests. docs/decisions/0034-optimisers.md
RATES: dict[str, float] = {"adam": 1e-3, "adamw": 1e-3, "sgd": 0.3, "muon": 0.02}
DECAY = 0.01  # decoupled weight decay of AdamW
MOMENTUM = 0.9  # of SGD
WARM_UP = 0.1  # share of a one-cycle run spent rising
FINAL_RATE = 0.01  # share of the peak rate at the end of cosine and one-cycle


class Plan(GrownDocument):
    """Settings that determine the result of a run, together with the data.

    Attributes:
        size: Side of the training images, in pixels.
        steps: Optimiser steps.
        batch: Images per step.
        rate: Peak learning rate; by default that of the optimiser in :data:`RATES`.
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
        optimiser: ``adam``, ``adamw`` (decoupled weight decay 0.01), ``sgd`` (Nesterov momentum 0.9), or ``muon``:
            orthogonalised updates of the matrices, and Adam of the same rate for biases, norms and convolutions.

    >>> import batteries
    >>> plan = batteries.Plan(spec=batteries.CellSpec.preset("high"), size=64, steps=4000, rate=3e-3, schedule="cosine")
    >>> plan.batch, plan.rate_at(0)
    (128, 0.003)
    """

    ADDED: ClassVar[tuple[str, ...]] = ("optimiser",)

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
    optimiser: Optimiser = "adam"

    @model_validator(mode="before")
    @classmethod
    def _choose_rate(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("rate") is None and data.get("optimiser", "adam") in get_args(Optimiser):
            return {**data, "rate": RATES[data.get("optimiser", "adam")]}
        return data

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
        return f"{self._optimiser_words()}, gradient norm at most {self.clip:g}{start}", self.schedule, hand

    def _optimiser_words(self) -> str:
        match self.optimiser:
            case "adam":
                return f"Adam {self.rate:g}, no weight decay"
            case "adamw":
                return f"AdamW {self.rate:g}, weight decay {DECAY:g}"
            case "sgd":
                return f"SGD {self.rate:g}, Nesterov momentum {MOMENTUM:g}, no weight decay"
            case "muon":
                rate = f"{self.rate:g}"
                return f"Muon {rate} on matrices, Adam {rate} on the rest, no weight decay"
