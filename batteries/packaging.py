"""From a finished run to a cell: weights, measurements, nulls and provenance in one immutable thing."""

from __future__ import annotations

import math
from importlib.metadata import version

import torch

from batteries import baselines, cellfile
from batteries.canonical import Document
from batteries.cell import Cell, file_facts
from batteries.errors import PolicyError
from batteries.geometry import Estimate
from batteries.manifest import (
    MAX_TRAJECTORY,
    Family,
    HeldFigure,
    Identity,
    InputScale,
    Manifest,
    Measured,
    Name,
    SemanticVersion,
    Text,
    TrainingFacts,
    TrainingPoint,
)
from batteries.measure import held_figure, measure, read
from batteries.model import arrays_of, untrained
from batteries.probes import Probe, own_probe, probe
from batteries.sources import Source, seed_of
from batteries.training import Run

BASELINE_PATCHES = 24_000  # training patches the linear codes are fitted on
BASELINE_SEED = 1  # purpose of a seed: 0 trains, 1 fits baselines, 2 draws the soft hand's simplices
UNTRAINED_SEED = 1_000_000  # added to the run's seed: never the run's own start


class Label(Document):
    """What a person says of a cell; its band is measured.

    Attributes:
        name: Without the band.
        version: Semantic.
        family: Such as ``fresnel`` (photographs) or ``johanna`` (noise).
        license: SPDX, of the weights.
        description: A sentence or two.
    """

    name: Name
    version: SemanticVersion
    family: Family
    license: Text
    description: Text


def package(run: Run, source: Source, label: Label, command: str) -> Cell:
    """Measure a finished run and make a cell of it.

    Args:
        run: Finished, not stopped by its triage.
        source: What it was trained on; the linear baselines are fitted on its domain's part.
        label: Name, version, family, licence, description.
        command: What a reader types to train it again.

    Raises:
        PolicyError: stopped by the triage, a CV that is degenerate or in no band, or weights that are not finite.
    """
    if run.stopped:
        raise PolicyError("a run that its triage stopped", code="TRIAGE", found=run.triage, where=label.name)
    weights = arrays_of(run.model)
    blob = cellfile.write(weights)
    facts = source.facts
    own = probe(own_probe(facts.kind, run.plan.size))
    code = baselines.fit(_baseline_images(run, source), run.plan.spec)
    measured = measure(run.model, own, code=code, held=_held(run, own))
    other = probe("photos-64" if facts.kind == "noise" else "noise16-64")
    null = measure(untrained(run.plan.spec, run.plan.seed + UNTRAINED_SEED), own, code=code)
    manifest = Manifest(
        identity=_identity(run, label, measured),
        spec=run.plan.spec,
        file=file_facts(blob, weights),
        training=_training_facts(run, source, command),
        own_probe=own.name,
        measured={own.name: measured, other.name: measure(run.model, other)},
        untrained={own.name: null},
    )
    return Cell.from_bytes(blob, manifest, where=manifest.path)


def _identity(run: Run, label: Label, measured: Measured) -> Identity:
    if measured.band is None:
        raise PolicyError(
            "a cell in no band",
            code="NO_BAND",
            expected="a CV inside one of the published windows",
            found=measured.cv,
            where=label.name,
            remedy="Train it less far from its attractor: a lower rate, fewer steps, a soft hand.",
        )
    channels = run.plan.spec.channels
    return Identity(
        band=measured.band,
        name=label.name,
        version=label.version,
        family=label.family,
        resolution=run.plan.size,
        input=InputScale(mean=(0.0,) * channels, std=(1.0,) * channels),
        license=label.license,
        description=label.description,
    )


def _training_facts(run: Run, source: Source, command: str) -> TrainingFacts:
    plan = run.plan
    optimiser, schedule, soft_hand = plan.describe()
    return TrainingFacts(
        data=source.facts,
        command=command,
        steps=run.step,
        batch=plan.batch,
        size=plan.size,
        optimiser=optimiser,
        schedule=schedule,
        soft_hand=soft_hand,
        seed=plan.seed,
        package=version("svae-batteries"),
        torch=torch.__version__,
        triage=run.triage,
        trajectory=_thinned(run),
    )


def _thinned(run: Run) -> tuple[TrainingPoint, ...]:
    """As many readings as a manifest holds, evenly; the one at triage and the last always stay."""
    every = -(-len(run.trajectory) // (MAX_TRAJECTORY - 2))
    at_triage = run.triage.step if run.triage else None
    kept = [p for i, p in enumerate(run.trajectory) if i % every == 0 or p.step == at_triage]
    return tuple(kept if kept[-1] is run.trajectory[-1] else [*kept, run.trajectory[-1]])


def _baseline_images(run: Run, source: Source) -> torch.Tensor:
    plan = run.plan
    per_image = math.prod(plan.spec.grid(plan.size, plan.size))
    return source.domain.batch(seed_of(plan.seed, 0, BASELINE_SEED), max(1, BASELINE_PATCHES // per_image), plan.size)


def _held(run: Run, own: Probe) -> HeldFigure | None:
    """The CV at the end over the CV at triage, paired by image."""
    if run.cv_at_triage is None or run.triage is None or run.triage.step == run.step:
        return None
    now = read(run.model, own.images, own.cluster).cv()
    return held_figure(run.cv_at_triage, now, run.triage.step) if isinstance(now, Estimate) else None
