"""Packaging of a finished run as a cell: weights, measurements, untrained nulls and provenance in one immutable object."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch

from batteries import __version__
from batteries.cell import weights_file
from batteries.cell.adaptation import Adaptation
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
from batteries.training.run import Run

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


class Figures(Document):
    """Figures of a cell, as its manifest has them.

    Attributes:
        own_probe: Name of its own probe.
        measured: Figures of the cell by probe: its own, and that of the other domain.
        untrained: Figures of an untrained cell of its spec, on its own probe.
    """

    own_probe: str
    measured: dict[str, Measured]
    untrained: dict[str, Measured]


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
    arrays = arrays_of(run.model)
    own = own_probe_of(source.facts, plan.size)
    code = linear_code(plan.spec, plan.size, plan.seed, source)
    input = InputScale(mean=(0.0,) * plan.spec.channels, std=(1.0,) * plan.spec.channels)
    figures = measured_figures(
        run.model,
        own,
        code=code,
        null=lambda: untrained_figures(plan.spec, own, plan.seed, code, input),
        input=input,
        held=_held(run, own),
        where=label.name,
    )
    training = _training_facts(run, source, command)
    return assembled(plan.spec, weights_file.write(arrays), arrays, label, training, input=input, figures=figures)


@neutral()
def measured_figures(
    model: PatchSVAE,
    own: Probe,
    *,
    code: LinearCode,
    null: Callable[[], Measured],
    input: InputScale,
    held: HeldFigure | None = None,
    where: object,
) -> Figures:
    """Measure a model on its own probe and on that of the other domain.

    Args:
        model: Model trained here or elsewhere.
        own: Own probe of the cell.
        code: Linear code for the baselines.
        null: Function that returns the figures of an untrained cell on the own probe; called last.
        input: Scale of the model's images; errors are always on this package's scale.
        held: Second flag, if a trajectory is known.
        where: Name of the cell in messages.

    Raises:
        PolicyError: degenerate CV (``NO_BAND``).
    """
    other = probe("photos-64" if own.domain == "noise" else "noise16-64")
    measured = measure(model, own, code=code, held=held, input=input)
    _refuse_no_band(measured, where)  # before the rest is measured
    figures = {own.name: measured, other.name: measure(model, other, input=input)}
    return Figures(own_probe=own.name, measured=figures, untrained={own.name: null()})


def assembled(
    spec: CellSpec,
    blob: bytes,
    arrays: Mapping[str, np.ndarray],
    label: Label,
    training: TrainingFacts,
    *,
    input: InputScale,
    figures: Figures,
    adapted: Adaptation | None = None,
) -> Cell:
    """Make a cell of its weights, its figures and the known facts of its training.

    Args:
        spec: Architecture.
        blob: Bytes of its weights file.
        arrays: Weights by tensor name.
        label: Name, version, family, licence, description.
        training: Known facts of its training.
        input: Scale of the model's images.
        figures: Figures of the model and of an untrained null.
        adapted: Adaptation that made the cell, if one did.
    """
    measured = figures.measured[figures.own_probe]
    manifest = Manifest(
        identity=_identity(label, measured, training.size, input),
        spec=spec,
        file=file_facts(blob, arrays),
        training=training,
        own_probe=figures.own_probe,
        measured=figures.measured,
        untrained=figures.untrained,
        adapted=adapted,
    )
    return Cell.from_bytes(blob, manifest, where=manifest.path)


def untrained_figures(spec: CellSpec, own: Probe, seed: int, code: LinearCode, input: InputScale) -> Measured:
    """Measure an untrained cell of a spec, the null of a run of this seed, on the own probe of the run."""
    return measure(untrained(spec, seed + UNTRAINED_SEED), own, code=code, input=input)


def own_probe_of(data: DataSource, size: int) -> Probe:
    """Return the own probe of a cell that learned the data."""
    return probe(own_probe(data.kind, size, data.noise_mix, data.noise_types))


def linear_code(spec: CellSpec, size: int, seed: int, source: Source) -> LinearCode:
    """Fit the linear baselines of a spec on images of a size, from the source's own domain."""
    per_image = math.prod(spec.grid(size, size))
    images = source.domain.batch(seed_of(seed, 0, BASELINE_SEED), max(1, BASELINE_PATCHES // per_image), size)
    return baselines.fit(images, spec)


def _refuse_no_band(measured: Measured, where: object) -> None:
    if measured.band is None:
        raise PolicyError(
            "no CV, hence no band",
            code="NO_BAND",
            expected="rows of M whose simplices have a volume, and D of 4 or more",
            found=measured.axial_cv,
            where=where,
            remedy="Check the row norm and the width; for an adopted cell, the input scale too.",
        )


def _identity(label: Label, measured: Measured, size: int, input: InputScale) -> Identity:
    assert measured.band is not None, "a cell without a band has no figures"
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
