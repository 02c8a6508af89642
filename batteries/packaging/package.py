"""From a finished run to a cell: weights, measurements, nulls and provenance in one immutable thing."""

from __future__ import annotations

import math

import torch

from batteries import __version__
from batteries.cell import weights_file
from batteries.cell.cell import Cell, file_facts
from batteries.cell.manifest import (
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
from batteries.cell.spec import CellSpec
from batteries.data.probes import Probe, own_probe, probe
from batteries.data.sources import Source, seed_of
from batteries.engine.torch_settings import neutral
from batteries.errors import PolicyError
from batteries.geometry.estimates import Estimate
from batteries.io.canonical_json import Document
from batteries.measurement import baselines
from batteries.measurement.baselines import LinearCode
from batteries.measurement.measure import held_figure, measure, read
from batteries.model.patch_svae import PatchSVAE, arrays_of, untrained
from batteries.training.trainer import Run

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


@neutral()
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
    plan = run.plan
    blob = weights_file.write(arrays_of(run.model))
    own = probe(own_probe(source.facts.kind, plan.size))
    return measured_cell(
        run.model,
        blob,
        label,
        _training_facts(run, source, command),
        code=linear_code(plan.spec, plan.size, plan.seed, source),
        input=InputScale(mean=(0.0,) * plan.spec.channels, std=(1.0,) * plan.spec.channels),
        held=_held(run, own),
    )


@neutral()
def measured_cell(
    model: PatchSVAE,
    blob: bytes,
    label: Label,
    training: TrainingFacts,
    *,
    code: LinearCode,
    input: InputScale,
    held: HeldFigure | None = None,
) -> Cell:
    """Measure a model on the probes of both domains, and its untrained null beside it, and make a cell of it.

    Args:
        model: Trained, here or elsewhere.
        blob: The bytes of its weights' file.
        label: Name, version, family, licence, description.
        training: What is known of its training.
        code: The linear baselines.
        input: The scale of the model's images; every error is on ours.
        held: The second flag, where a trajectory is known.

    Raises:
        PolicyError: a CV that is degenerate or in no band.
    """
    spec = model.spec
    own = probe(own_probe(training.data.kind, training.size))
    other = probe("photos-64" if own.domain == "noise" else "noise16-64")
    measured = measure(model, own, code=code, held=held, input=input)
    identity = _identity(label, measured, training.size, input)  # a cell in no band is refused before the rest is measured
    null = untrained(spec, (training.seed or 0) + UNTRAINED_SEED)
    manifest = Manifest(
        identity=identity,
        spec=spec,
        file=file_facts(blob, arrays_of(model)),
        training=training,
        own_probe=own.name,
        measured={own.name: measured, other.name: measure(model, other, input=input)},
        untrained={own.name: measure(null, own, code=code, input=input)},
    )
    return Cell.from_bytes(blob, manifest, where=manifest.path)


def linear_code(spec: CellSpec, size: int, seed: int, source: Source) -> LinearCode:
    """Linear baselines of a spec, fitted on images of this size of the source's own domain."""
    per_image = math.prod(spec.grid(size, size))
    images = source.domain.batch(seed_of(seed, 0, BASELINE_SEED), max(1, BASELINE_PATCHES // per_image), size)
    return baselines.fit(images, spec)


def _identity(label: Label, measured: Measured, size: int, input: InputScale) -> Identity:
    if measured.band is None:
        raise PolicyError(
            "a cell in no band",
            code="NO_BAND",
            expected="a CV inside one of the published windows",
            found=measured.cv,
            where=label.name,
            remedy="Train it less far from its attractor: a lower rate, fewer steps, a soft hand. "
            "Of an adopted cell, check the input scale, the width and the row norm.",
        )
    return Identity(
        band=measured.band,
        name=label.name,
        version=label.version,
        family=label.family,
        resolution=size,
        input=input,
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
        package=__version__,
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


def _held(run: Run, own: Probe) -> HeldFigure | None:
    """CV at the end over the CV at triage, paired by image."""
    if run.cv_at_triage is None or run.triage is None or run.triage.step == run.step:
        return None
    now = read(run.model, own.images, own.cluster).cv()
    return held_figure(run.cv_at_triage, now, run.triage.step) if isinstance(now, Estimate) else None
