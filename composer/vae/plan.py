"""Plan of the training of a battery VAE."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from batteries.io.canonical_json import Document
from batteries.training import schedules
from batteries.training.plan import MAX_STEPS, too_many_pixels
from batteries.training.schedules import Schedule

MAX_SEED = 2**64 - 1  # largest seed of torch's generators
MAX_WEIGHT = 1e30  # of a term: a float32 holds its products

Weight = Annotated[float, Field(ge=0, le=MAX_WEIGHT)]


class VaePlan(Document):
    """Settings of the training of a battery VAE.

    The loss of a step is

        mse + kl * share * KL / values + discipline * mean over sectors of (CV / exact - 1)^2, added up over three places,

    with KL in nats per image, values the numbers of an image, and share rising from 0 to 1 during the warm-up. The first two
    terms are, up to a factor, the evidence lower bound of normal errors with the variance kl / 2. Each number of a code has
    ``free`` nats that cost nothing (Kingma et al. 2016), averaged over patches and images.

    Attributes:
        steps: Optimiser steps (Adam, without weight decay).
        size: Side of the training images, in pixels.
        batch: Images per step.
        rate: Peak learning rate.
        schedule: Schedule of the learning rate: :func:`batteries.training.schedules.share`.
        clip: Largest norm of the gradient; 0 leaves it as it is.
        kl: Weight of the divergence, twice the variance of the errors.
        free: Free nats of each number of a code.
        warm_up: Steps of the warm-up of the divergence.
        discipline: Weight of the Cayley-Menger term towards the exact attractor, at the encoders' rows, the inverse's rows and
            the arrays; 0 turns it off.
        seed: Seed of data and draws.
        reading_every: Steps between readings.
        checkpoint_every: Steps between checkpoints.

    >>> from composer.vae import VaePlan
    >>> plan = VaePlan(steps=1000)
    >>> plan.rate_at(0), plan.share_at(50)
    (1e-05, 0.5)
    """

    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)]
    size: Annotated[int, Field(ge=1, le=4096)] = 64
    batch: Annotated[int, Field(ge=1)] = 4
    rate: Annotated[float, Field(gt=0, le=MAX_WEIGHT)] = 1e-3
    schedule: Schedule = "onecycle"
    clip: Weight = 1.0
    kl: Annotated[float, Field(gt=0, le=MAX_WEIGHT)] = 1e-4
    free: Weight = 0.05
    warm_up: Annotated[int, Field(ge=0)] = 100
    discipline: Weight = 0.1
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    reading_every: Annotated[int, Field(ge=1)] = 100
    checkpoint_every: Annotated[int, Field(ge=1)] = 100

    @model_validator(mode="after")
    def _images_fit(self) -> VaePlan:
        if wrong := too_many_pixels(self.batch, self.size):
            raise ValueError(wrong[0])
        return self

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self.rate * schedules.share(self.schedule, step, self.steps)

    def share_at(self, step: int) -> float:
        """Return the share of the divergence's weight at a step, counted from 0."""
        return min(1.0, step / self.warm_up) if self.warm_up else 1.0
