"""Result of an adaptation: the new cell, packaged with figures of its own, and what happened on the way."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from semver import Version
from torch import nn

from batteries import __version__, short_repr
from batteries.cell import weights_file
from batteries.cell.adaptation import Adaptation, HeldRatio, HoldFigures
from batteries.cell.cell import Cell
from batteries.cell.manifest import MAX_TRAJECTORY, TrainingFacts
from batteries.data.probes import probe
from batteries.geometry.estimates import Estimate, Held
from batteries.measurement.measure import finite_or_none
from batteries.model.patch_svae import arrays_of
from batteries.packaging.package import Label, assembled, linear_code, measured_figures, untrained_figures
from composer.adaptation.adapting import Ended, Job, Learned
from composer.adaptation.guard import AdaptMoment
from composer.hosts.tasks import Task


@dataclass(frozen=True, eq=False)
class Adapted:
    """An adapted cell.

    Attributes:
        cell: New cell.
        parent: Cell that it was, unchanged.
        task: Task of the host.
        host: Host that learned around the new cell.
        score: Score of the host on test images: accuracy, or R2 where images are restored.
        moments: Looks of the guard, in order, those after which the cell went back included.
        ended: ``finished`` after all steps, or ``guard`` where the cell would not hold any longer.

    >>> import composer, registry
    >>> cell, numbers = registry.load("low/johanna-64"), composer.hosts.TaskSize(train=32, test=32)
    >>> found = composer.adapt(cell, composer.hosts.residual_host(), composer.adaptation.naming(numbers=numbers), steps=2)
    >>> found.ended, found.cell.name, found.cell.version, found.cell.manifest.adapted.parent
    ('finished', 'low/johanna-64', '3.2.0', 'low/johanna-64@3.1.0')
    """

    cell: Cell
    parent: Cell
    task: Task
    host: nn.Module
    score: Estimate
    moments: tuple[AdaptMoment, ...]
    ended: Ended

    __repr__ = short_repr.fields


def packaged(job: Job, learned: Learned, label: Label, command: str) -> Adapted:
    """Measure an adapted model and make a cell of it, with its parent and its dose in the manifest.

    Raises:
        PolicyError: degenerate CV (``NO_BAND``).
    """
    parent, source, plan = job.cell, job.domain.source, job.plan
    own, size = probe(parent.manifest.own_probe), job.domain.images.shape[-1]
    arrays = arrays_of(learned.model)
    code, input = linear_code(parent.spec, size, plan.seed, source), parent.manifest.identity.input
    figures = measured_figures(
        learned.model,
        own,
        code=code,
        null=lambda: untrained_figures(parent.spec, own, plan.seed, code, input),
        input=input,
        where=parent.name,
    )
    blob = weights_file.write(arrays)
    facts, adapted = _training_facts(job, learned, command), _adaptation(job, learned)
    cell = assembled(parent.spec, blob, arrays, label, facts, input=input, figures=figures, adapted=adapted)
    return Adapted(cell, parent, job.task, learned.host, learned.score, learned.moments, learned.ended)


def next_label(parent: Cell, task: str) -> Label:
    """Return the default label of an adapted cell: its parent's name with the next minor version.

    Args:
        parent: Cell to be adapted.
        task: Name of the task.

    >>> import composer, registry
    >>> label = composer.adaptation.next_label(registry.load("low/johanna-64@3.1.0"), "denoise")
    >>> label.name, label.version
    ('johanna-64', '3.2.0')
    """
    identity = parent.manifest.identity
    return Label(
        name=identity.name,
        version=str(Version.parse(identity.version).bump_minor()),
        family=identity.family,
        license=identity.license,
        description=f"{parent.name}@{parent.version}, adapted in a host that learned to {task}."[:2000],
    )


def _training_facts(job: Job, learned: Learned, command: str) -> TrainingFacts:
    plan, facts = job.plan, job.domain.source.facts
    optimiser, schedule, soft_hand = plan.describe()
    words = f"images of the task: {job.task.name}; own domain: {facts.description}"[:2000]
    shown = tuple(sorted({*facts.probe_photographs, *job.task.shown}))
    every = -(-len(learned.points) // (MAX_TRAJECTORY - 1))
    kept = [point for place, point in enumerate(learned.points) if place % every == 0]
    return TrainingFacts(
        data=facts.model_copy(update={"description": words, "probe_photographs": shown}),
        command=command,
        steps=learned.points[-1].step,
        batch=job.batch,
        size=job.domain.images.shape[-1],
        optimiser=optimiser,
        schedule=schedule,
        soft_hand=soft_hand,
        seed=plan.seed,
        package=__version__,
        torch=torch.__version__,
        triage=None,
        trajectory=tuple(kept if kept[-1] is learned.points[-1] else [*kept, learned.points[-1]]),
    )


def _adaptation(job: Job, learned: Learned) -> Adaptation:
    parent, last = job.cell, learned.last
    return Adaptation(
        parent=f"{parent.name}@{parent.version}",
        parent_digest=parent.digest,
        host=_host_words(learned.host),
        task=job.task.name,
        optimiser=job.plan.optimiser,
        rate=job.plan.rate,
        host_rate=job.host_rate,
        steps=last.step,
        backoffs=learned.backoffs,
        ended=learned.ended,
        seed=job.plan.seed,
        hold=HoldFigures(**asdict(job.hold)) if job.hold else None,
        dose=learned.dose,
        weight_change=last.weight_change,
        score=learned.score.value,
        score_error=finite_or_none(learned.score.standard_error),
        content=last.content,
        axial_cv=_ratio(last.axial_cv) if last.axial_cv else None,
        rank=_ratio(last.rank),
        measured_on=job.domain.words,
    )


def _ratio(held: Held) -> HeldRatio:
    return held.ratio, held.lower, held.upper


def _host_words(host: nn.Module) -> str:
    weights = sum(weight.numel() for weight in host.parameters() if weight.requires_grad)
    return f"{type(host).__name__} of {weights:,} weights"
