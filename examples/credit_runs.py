"""One run of the credit study, in a worker: its task, its host, its training under an audit, and the measures at its end."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from statistics import fmean

from credit_jobs import CELL, OPEN, Job, Line, Moment
from torch import Tensor

import composer
import registry
from batteries.errors import InputError, PolicyError
from composer import audit, credit, hosts

BATCH = 160  # samples of a held-out batch: ten of them
MEASURED = 512  # held-out samples of the cosines
DIGITS = 6  # significant, of what is kept along a training
TASKS: dict[str, Callable[[], credit.CreditTask]] = {
    "noise": credit.noise_task,
    "photographs": credit.photograph_task,
    "digits": credit.digit_task,
}


@functools.lru_cache(maxsize=2)
def task_of(name: str) -> credit.CreditTask:
    """Make a task by its name."""
    base, _, reads = name.partition(":")
    folder = base.removeprefix("cifar=")
    task = TASKS[base]() if folder == base else credit.cifar_task(folder)
    return credit.through_cells(task, composer.compose(registry.load(CELL)), reads) if reads else task


def host_of(name: str, task: credit.CreditTask, seed: int) -> hosts.Staged:
    """Make a host by its name for the images of a task."""
    channels, side = task.train[0].shape[1:3]
    if name == "vit":
        form = hosts.ImageForm(channels, side, width=64, patch=max(1, side // 4))
        return credit.seeded(lambda: hosts.VisionTransformer(task.classes, form), seed)
    if name == "cnn":
        form = hosts.ImageForm(channels, side, width=32, patch=1)
        return credit.seeded(lambda: hosts.ConvNet(task.classes, form), seed)
    if name == "student":
        stream = hosts.StreamForm(terminal_norm=False, block_norm=False)
    else:
        width, blocks = map(int, name.split("-")[1].split("x"))
        stream = hosts.StreamForm(width, blocks, terminal_norm=name != OPEN)
    return credit.seeded(lambda: hosts.ResidualMLP(channels * side * side, task.classes, stream), seed)


def run(job: Job, baseline: audit.Baseline | None) -> Line:
    """Carry out a run.

    Args:
        job: The run.
        baseline: Scores of the same host with frozen blocks; None for that run itself.
    """
    since = time.process_time()
    task = task_of(job.task)
    host = host_of(job.host, task, job.seed)
    if isinstance(host, hosts.ResidualMLP):
        task = task.flat()
    x, classes = task.test
    held = audit.batched(x, classes, BATCH)
    rule = credit.rule_of(job.rule, host, task.train[0][:2], task.classes, seed=job.seed)
    watcher = audit.AuditWatcher(held, baseline=baseline)
    try:
        losses = credit.train(
            host,
            rule,
            task.train,
            credit.CreditPlan(epochs=job.epochs),
            job.seed,
            look=lambda epoch: _looked(watcher, host, epoch),
        )
    except (PolicyError, InputError) as error:
        if error.code not in ("DIVERGED", "NOT_FINITE"):
            raise
        return Line(name=job.name, plan=job.digest, diverged=str(error.where), seconds=time.process_time() - since)
    sample = _first(x, classes)
    null = credit.fresh_null(rule, host, *sample)
    reports = watcher.reports
    return Line(
        name=job.name,
        plan=job.digest,
        report=reports[job.epochs],
        baseline=audit.Baseline.of(host, held) if job.rule == "frozen" else None,
        initial=tuple(key for key in reports[0].fired if key != "d"),
        first=dict(watcher.first),
        moments=tuple(_moment(epoch, report) for epoch, report in reports.items() if _kept(epoch, job.epochs)),
        cosine=() if job.rule == "frozen" else credit.deep_cosine(rule, host, *sample),
        null_own=None if null is None else null.own,
        null_mean=None if null is None else null.mean,
        null_deviation=None if null is None else null.deviation,
        null_z=None if null is None else null.z,
        nudging=() if job.rule == "frozen" else _measured(credit.nudging, rule, host, sample) or (),
        decrease=None if job.rule == "frozen" else _measured(credit.loss_decrease, rule, host, sample),
        loss=fmean(losses[-1:]),
        seconds=round(time.process_time() - since, 1),
    )


def _looked(watcher: audit.AuditWatcher, host: hosts.Staged, epoch: int) -> None:
    watcher.look(host, epoch)


def _measured(measure, rule, host, sample):  # type: ignore[no-untyped-def]
    """Return a measure, or None where not even the true gradient lowers the loss."""
    try:
        return measure(rule, host, *sample)
    except InputError as error:
        if error.code != "NUDGE":
            raise
        return None


def _first(x: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first held-out samples, in which classes take turns."""
    return x[:MEASURED], classes[:MEASURED]


def _kept(epoch: int, epochs: int) -> bool:
    return epoch % max(1, epochs // 20) == 0


def _moment(epoch: int, report: audit.AuditReport) -> Moment:
    values = {name: report.of(key).value for name, key in (("growth", "a"), ("gradient", "b"), ("stability", "c"))}
    known = {name: float(f"{value:.{DIGITS}g}") for name, value in values.items() if value is not None}
    return Moment(epoch=epoch, accuracy=float(f"{report.accuracy:.{DIGITS}g}"), **known)
