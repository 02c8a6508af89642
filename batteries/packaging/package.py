"""Packaging of a finished run as a cell: weights, measurements, untrained nulls and provenance in one immutable object."""

from __future__ import annotations

import math

import torch

from batteries import __version__
from batteries.cell import weights_file
from batteries.cell.cell import Cell, file_facts
from batteries.cell.manifest import (
    MAX_TRAJECTORY,
    DataSource,
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

BASELINE_PATCHES = 24_000  # training patches that the linear codes are fitted on
BASELINE_SEED = 1  # purpose in seed_of: 0 trains, 1 fits baselines, 2 draws the soft hand's simplices
UNTRAINED_SEED = 1_000_000  # added to the run's seed, so that the null never has the run's own initial weights


class Label(Document):
    """Description of a cell by its author; the band is measured instead, ``off`` where the CV is outside that of its width.

    Attributes:
        name: Name without the band.
        version: Semantic version.
        family: Family name, such as ``fresnel`` (photographs) or ``johanna`` (noise).
        license: SPDX expression of the licence of the weights.
        description: Description in a sentence or two.

    >>> import batteries
    >>> label = batteries.Label(name="mine-64", version="1.0.0", family="mine", license="Apache-2.0", description="A test.")
    >>> label.model_copy(update={"version": "1.0.1"}).version
    '1.0.1'
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
        run: Finished run, not stopped by its triage.
        source: Training data; the linear baselines are fitted on the part in the cell's own domain.
        label: Name, version, family, licence, description.
        command: Command that repeats the training, for the manifest.

    Raises:
        PolicyError: run stopped by its triage, degenerate CV (``NO_BAND``), or non-finite weights.

    >>> import batteries
    >>> spec = batteries.CellSpec.preset("high", patch_size=8, hidden=16, smooth_width=4)
    >>> source = batteries.NoiseSource()
    >>> run = batteries.train(batteries.Plan(spec=spec, size=64, steps=2, batch=4), source, "noise16-64")
    >>> label = batteries.Label(name="mine-64", version="1.0.0", family="mine", license="Apache-2.0", description="A test.")
    >>> batteries.package(run, source, label, command="python mine.py").name
    'high/mine-64'
    """
    if run.stopped:
        raise PolicyError("run stopped by its triage", code="TRIAGE", found=run.triage, where=label.name)
    plan = run.plan
    blob = weights_file.write(arrays_of(run.model))
    own = probe(own_probe_of(source.facts, plan.size))
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
    """Measure a model on the probes of both domains, and an untrained null, and make a cell of it.

    Args:
        model: Model trained here or elsewhere.
        blob: Bytes of its weights file.
        label: Name, version, family, licence, description.
        training: Known facts of its training.
        code: Linear code for the baselines.
        input: Scale of the model's images; errors are always on this package's scale.
        held: Second flag, if a trajectory is known.

    Raises:
        PolicyError: degenerate CV (``NO_BAND``).
    """
    spec = model.spec
    own = probe(own_probe_of(training.data, training.size))
    other = probe("photos-64" if own.domain == "noise" else "noise16-64")
    measured = measure(model, own, code=code, held=held, input=input)
    identity = _identity(label, measured, training.size, input)  # refuses a cell without a band before the rest
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


def own_probe_of(data: DataSource, size: int) -> str:
    """Return the name of the own probe of a cell that learned the data."""
    return own_probe(data.kind, size, data.noise_mix)


def linear_code(spec: CellSpec, size: int, seed: int, source: Source) -> LinearCode:
    """Fit the linear baselines of a spec on images of a size, from the source's own domain."""
    per_image = math.prod(spec.grid(size, size))
    images = source.domain.batch(seed_of(seed, 0, BASELINE_SEED), max(1, BASELINE_PATCHES // per_image), size)
    return baselines.fit(images, spec)


def _identity(label: Label, measured: Measured, size: int, input: InputScale) -> Identity:
    if measured.band is None:
        raise PolicyError(
            "no CV, hence no band",
            code="NO_BAND",
            expected="rows of M whose simplices have a volume, and D of 4 or more",
            found=measured.axial_cv,
            where=label.name,
            remedy="Check the row norm and the width; for an adopted cell, the input scale too.",
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
    """Thin the readings evenly to the number that a manifest holds, keeping the one at triage and the last."""
    every = -(-len(run.trajectory) // (MAX_TRAJECTORY - 2))
    at_triage = run.triage.step if run.triage else None
    kept = [p for i, p in enumerate(run.trajectory) if i % every == 0 or p.step == at_triage]
    return tuple(kept if kept[-1] is run.trajectory[-1] else [*kept, run.trajectory[-1]])


def _held(run: Run, own: Probe) -> HeldFigure | None:
    """Compare the final axial CV with that at triage, paired by image."""
    if run.axial_cv_at_triage is None or run.triage is None or run.triage.step == run.step:
        return None
    now = read(run.model, own.images, own.cluster).axial_cv()
    return held_figure(run.axial_cv_at_triage, now, run.triage.step) if isinstance(now, Estimate) else None
