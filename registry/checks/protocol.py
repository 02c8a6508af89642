"""Protocols of the viability test: all numbers, with their sources, fixed before any verdict was made with them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from batteries import short_repr
from batteries.io import canonical_json
from batteries.io.canonical_json import Document

FACTS = "published triage and measured figures of the research the cells come from"
DESIGN = "design decision, docs/decisions/0009-viability-profiles.md"
MEASURED = "measured on the johanna cells before any verdict, docs/decisions/0009-viability-profiles.md"
CONTENT = "between the shipped cells and crafted ones, docs/decisions/0033-content-checks.md"

Profile = Literal["quick", "standard"]
Control = Literal[
    "untrained",
    "none",
    "scale",
    "rank-one",
    "doubled-rows",
    "shuffled",
    "scrambled",
    "forgetful",
    "memorised",
    "random-encoder",
    "constant-S",
    "nan",
]
Count = Annotated[int, Field(gt=0)]


class Threshold(Document):
    """A limit that a check compares its value with, and the source of that limit."""

    value: float
    source: str


class ViabilityProtocol(Document):
    """Numbers of a viability test.

    Attributes:
        name: Name and version; a cell has one attestation per name.
        size: Side of the tasks' images, in pixels.
        train: Images to train a host on.
        test: Noise images to score a host on.
        crops: Crops of photographs to score a host on; fewer than ``test``, since crops of one photograph are alike.
        sigma: Standard deviation of the Gaussian noise that a host learns to remove from photographs.
        width: Width of the host's residual stream.
        blocks: Residual blocks of the host.
        host_steps: Optimiser steps of a frozen trial.
        host_rate: Adam's learning rate for the host's own weights.
        batch: Images per step.
        patches: Most patches per step for a host that restores images, which reads every patch.
        frozen_seeds: Frozen trials per host, with and without terminal LayerNorm.
        untrained: Untrained cells of the same spec in the null.
        dose_rates: Adam's learning rates for the cell's weights under its host's gradient, ascending.
        reference_rate: Dose rate on which the verdict rests.
        dose_steps: Optimiser steps at each dose rate.
        dose_seeds: Trials at each other dose rate.
        reference_seeds: Trials at the reference rate.
        readings: Readings of the cell along each dose trial.
        return_rate: Adam's learning rate in reconstruction training after the largest dose.
        return_batch: Images per step of reconstruction training.
        return_limit: Most steps of reconstruction training.
        return_every: Steps between tests for recovery.
        radius: Largest distance of a row's length from 1.
        rank: Least effective rank, as a share of D.
        claimed: Largest ratio of MSE and the manifest's, in either direction.
        null_share: Largest MSE, as a share of the untrained cells' mean.
        type_share: Largest error on a noise type or photograph, as a share of that of answering each image's mean colour.
        image_share: Largest error on one image, as a share of that of answering its type's mean colour.
        unseen: Largest error on mirror images of the probe, as a multiple of that on the probe.
        readout: Largest loss of a read-out of M or omega, as a share of that of untrained cells.
        gradient: Least gradient norm at the input that the host feeds the cell.
        lift: Least lower 99% bound of the host's score over the untrained mean.
        kept: Least share kept of the variance that the cell explains beyond predicting the mean.

    >>> import registry
    >>> protocol = registry.PROFILES["quick"].model_copy(update={"name": "mine-1", "host_steps": 20})
    >>> protocol.host_steps, protocol.digest == registry.PROFILES["quick"].digest
    (20, False)
    """

    name: str
    size: Count = 64
    train: Count = 512
    test: Count = 320
    crops: Count = 160
    sigma: float = 0.25
    width: Count = 256
    blocks: Count = 4
    host_steps: Count = 60
    host_rate: float = 2e-3
    batch: Count = 32
    patches: Count = 1024
    frozen_seeds: Count = 1
    untrained: Annotated[int, Field(ge=5)] = 5
    dose_rates: tuple[float, ...] = (1e-5, 1e-4, 3e-4, 1e-3)
    reference_rate: float = 1e-4
    dose_steps: Count = 50
    dose_seeds: Count = 1
    reference_seeds: Count = 12
    readings: Count = 1
    return_rate: float = 1e-3
    return_batch: Count = 16
    return_limit: Count = 40
    return_every: Count = 10
    radius: Threshold = Threshold(value=1e-4, source=f"float32 rows measure 4e-8; {FACTS}")
    rank: Threshold = Threshold(value=0.7, source=f"trained cells 0.95 and more, rank one 0.25 and less; {FACTS}")
    claimed: Threshold = Threshold(value=1.01, source="the same weights give the same error but for a platform's rounding")
    null_share: Threshold = Threshold(value=0.9, source=DESIGN)
    type_share: Threshold = Threshold(value=0.97, source=CONTENT)
    image_share: Threshold = Threshold(value=0.97, source=CONTENT)
    unseen: Threshold = Threshold(value=1.05, source=CONTENT)
    readout: Threshold = Threshold(value=0.9, source=CONTENT)
    gradient: Threshold = Threshold(value=1e-7, source="floor below which a gradient counts as lost; the audit protocol")
    lift: Threshold = Threshold(value=0.02, source=DESIGN)
    kept: Threshold = Threshold(value=0.9, source=MEASURED)

    def __repr__(self) -> str:
        fields = type(self).model_fields.items()
        said = [name for name, field in fields if getattr(self, name) != field.default]
        return short_repr.headed(self, *(f"{name}={short_repr.shown(getattr(self, name))}" for name in said))

    @property
    def digest(self) -> str:
        """SHA-256 of the protocol's canonical bytes."""
        return canonical_json.sha256(self.to_bytes())


PROFILES: dict[Profile, ViabilityProtocol] = {
    "quick": ViabilityProtocol(name="quick-3"),
    "standard": ViabilityProtocol(
        name="standard-3", frozen_seeds=3, dose_seeds=5, readings=4, return_limit=200, return_every=20
    ),
}
