"""The numbers of the viability test, each with its source, fixed before any verdict was made with them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from batteries import canonical
from batteries.canonical import Document
from batteries.manifest import Domain

FACTS = "published triage and measured figures of the research the cells come from"
DESIGN = "design decision, docs/decisions/0006-viability.md"


class Threshold(Document):
    """A number a check holds its value against, and where it comes from."""

    value: float
    source: str


class ViabilityProtocol(Document):
    """How a cell is tried.

    Attributes:
        name: Name and version; attestations are kept per name.
        size: Side of the task's images, in pixels.
        train: Images the host learns from.
        test: Images its accuracy is measured on.
        host_steps: Optimiser steps of the frozen trial.
        batch: Images a step.
        head_rate: Adam's rate for the host's head.
        stem_rate: Adam's rate for the host's stem, before the cell.
        untrained: Untrained cells of the same spec that make the null.
        dose_rate: Adam's rate on the cell's own weights in the unfrozen trial.
        dose_steps: Steps of it.
        radius: Largest distance of a row's length from 1.
        rank: Least effective rank, as a share of D.
        null_share: Largest MSE, as a share of the untrained cells' mean.
        gradient: Least gradient norm at the stem.
        lift: Least lower 99% bound of the accuracy over the untrained mean.
        lift_decides: Domains where the lift decides. Elsewhere it is reported: on photographs a host around untrained cells
            names the photograph as well (measured in docs/decisions/0006-viability.md).
        retention: Largest MSE after the dose over before.
    """

    name: str = "first-2"
    size: Annotated[int, Field(gt=0)] = 64
    train: Annotated[int, Field(gt=0)] = 512
    test: Annotated[int, Field(gt=0)] = 320
    host_steps: Annotated[int, Field(gt=0)] = 100
    batch: Annotated[int, Field(gt=0)] = 32
    head_rate: float = 1e-2
    stem_rate: float = 1e-3
    untrained: Annotated[int, Field(ge=2)] = 5
    dose_rate: float = 1e-5
    dose_steps: Annotated[int, Field(gt=0)] = 50
    radius: Threshold = Threshold(value=1e-4, source=f"float32 rows measure 4e-8; {FACTS}")
    rank: Threshold = Threshold(value=0.7, source=f"trained cells 0.95 and more, rank one 0.25 and less; {FACTS}")
    null_share: Threshold = Threshold(value=0.9, source=DESIGN)
    gradient: Threshold = Threshold(value=1e-7, source="floor below which a gradient counts as lost; the audit protocol")
    lift: Threshold = Threshold(value=0.02, source=DESIGN)
    lift_decides: tuple[Domain, ...] = ("noise",)
    retention: Threshold = Threshold(value=1.5, source=DESIGN)

    @property
    def digest(self) -> str:
        """SHA-256 of the protocol's canonical bytes."""
        return canonical.sha256(self.to_bytes())


FIRST = ViabilityProtocol()
