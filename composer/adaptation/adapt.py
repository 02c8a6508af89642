"""Adapt a cell in a host: it learns with the host, its content, CV and rank are held, and it becomes a new cell."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from pydantic import ValidationError
from torch import nn

from batteries.cell.cell import Cell
from batteries.data.sources import PhotoSource, refuse_shown
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from batteries.io.canonical_json import fields_of
from batteries.packaging.package import Label
from batteries.training.plan import Plan
from batteries.training.schedules import Schedule
from composer.adaptation.adapted import Adapted, next_label, packaged
from composer.adaptation.adapting import Job, Progress, learn
from composer.adaptation.domains import OwnDomain, own_domain
from composer.adaptation.hold import Hold
from composer.hosts.cell_hosts import FrozenCell, HostFactory
from composer.hosts.tasks import Task, refuse_unfit

AdaptOptimiser = Literal["adam", "muon"]
STEPS, BATCH, HOST_RATE = 250, 32, 2e-3
RATES: dict[AdaptOptimiser, float] = {"adam": 1e-3, "muon": 3e-3}  # docs/decisions/0046-adaptation.md
SCHEDULE: Schedule = "cosine"
HOLD = Hold()


@neutral()
@torch.enable_grad()
def adapt(
    cell: Cell,
    host: HostFactory,
    task: Task,
    *,
    hold: Hold | None = HOLD,
    optimiser: AdaptOptimiser = "muon",
    steps: int = STEPS,
    rate: float | None = None,
    host_rate: float = HOST_RATE,
    batch: int = BATCH,
    seed: int = 0,
    domain: OwnDomain | None = None,
    label: Label | None = None,
    command: str = "composer.adapt",
    progress: Progress = lambda step, loss, moment: None,
) -> Adapted:
    """Train a host and the weights of its cell together, hold the cell, and make a new cell of it. The parent is unchanged.

    The cell's weights follow the gradient of the host's loss and of the terms of the hold, all in units of a share: images
    to be restored count as 1 - R2. The guard measures the cell every ``hold.every`` steps; where it does not hold, host and
    cell go back to the last state that held, and the cell learns on at half its rate, until ``hold.backoffs`` are used up.

    Args:
        cell: Parent.
        host: Factory of the host, such as :func:`composer.hosts.residual_host`, which may read frozen cells of a container
            beside this one. It is called with the mounted cell, some images and the number of classes (0: restore images).
        task: Task of the host.
        hold: Terms and guard; None for a raw gradient, which nothing holds.
        optimiser: Optimiser of the cell's weights: ``adam`` or ``muon``. The host's is Adam.
        steps: Steps. Both rates fall along half a cosine over them: at a constant rate the last steps of a cell are a jitter
            that its host has to follow.
        rate: First learning rate of the cell's weights; by default that of the optimiser.
        host_rate: First learning rate of the host's weights.
        batch: Images of the task per step; fewer where they are restored.
        seed: Seed of host, images and simplices.
        domain: Own domain of the cell; by default :func:`composer.adaptation.own_domain`.
        label: Name, version, family, licence, description; by default the parent's, with the next minor version.
        command: Command that repeats the adaptation, for the manifest.
        progress: Called after each step with its number, the host's loss, and the last look of the guard.

    Raises:
        InputError: a frozen cell of a container (``FROZEN_CELL``), or what is no cell (``CELL``), no task (``TASK``), no hold
            (``HOLD``), no factory of a host (``HOST``) or no domain (``DOMAIN``); a task whose images do not fit the cell
            (``CELL_INPUT``, ``IMAGE_SIZE``); invalid numbers (``USAGE``); an unusable host, as in
            :func:`composer.hosts.host_training.make_host`.
        PolicyError: a loss or gradient that is not finite (``DIVERGED``), no state that held (``NOT_HELD``), a parent without
            content to hold (``NO_CONTENT``), or photographs of the probes among those of the domain (``PROBE_PHOTOS``).

    >>> import composer, registry
    >>> cell, numbers = registry.load("low/johanna-64"), composer.hosts.TaskSize(train=32, test=32)
    >>> found = composer.adapt(cell, composer.hosts.residual_host(), composer.adaptation.naming(numbers=numbers), steps=2)
    >>> found.cell.manifest.adapted.parent_digest == cell.digest, found.moments[-1].holds
    (True, True)
    """
    _refuse_kinds(cell, host, task, hold)
    refuse_unfit(cell, [task])
    domain = own_domain(cell) if domain is None else domain
    if not isinstance(domain, OwnDomain):
        raise InputError("not a domain", code="DOMAIN", expected="composer.adaptation.own_domain(...)", found=repr(domain)[:60])
    if isinstance(domain.source, PhotoSource):
        refuse_shown(domain.source)
    plan = plan_of(cell, optimiser, steps=steps, rate=rate, batch=batch, seed=seed, size=domain.images.shape[-1])
    if not 0 < host_rate < float("inf"):
        raise InputError("invalid options", code="USAGE", expected="a host_rate above 0", found=host_rate)
    job = Job(cell, host, task, domain, hold, plan, host_rate)
    return packaged(job, learn(job, progress), label or next_label(cell, task.name), command)


def plan_of(cell: Cell, optimiser: str, *, rate: float | None, **numbers: int) -> Plan:
    """Return the plan of the cell's weights: no soft hand, no clipping."""
    if optimiser not in get_args(AdaptOptimiser):
        expected = " | ".join(get_args(AdaptOptimiser))
        raise InputError("unknown optimiser of an adaptation", code="USAGE", expected=expected, found=optimiser)
    chosen = RATES[optimiser] if rate is None else rate  # type: ignore[index]  # checked above
    settings = {"schedule": SCHEDULE, "clip": 0.0, "boost": 0.0, "start": cell.digest, "rate": chosen, **numbers}
    try:
        return Plan(spec=cell.spec, optimiser=optimiser, **settings)  # type: ignore[arg-type]  # checked by the plan
    except ValidationError as error:
        raise InputError("invalid options", code="USAGE", found=fields_of(error)) from error


def _refuse_kinds(cell: object, host: object, task: object, hold: object) -> None:
    """Refuse what is no cell, no factory, no task and no hold; a cell that hosts share is named with their number."""
    if isinstance(cell, FrozenCell):
        raise InputError(
            "frozen cell of a container",
            code="FROZEN_CELL",
            expected="a cell, such as registry.load gives",
            found=f"{cell!r}, frozen in {cell.hosts} hosts",
            remedy="Pass the cell that the container was composed of; its container and hosts stay as they are.",
        )
    for given, kind, code in ((cell, Cell, "CELL"), (task, Task, "TASK")):
        if not isinstance(given, kind):
            expected = f"a {kind.__name__.lower()}"
            raise InputError(f"not {expected}", code=code, expected=expected, found=repr(given)[:60])
    if hold is not None and not isinstance(hold, Hold):
        raise InputError("not a hold", code="HOLD", expected="composer.Hold(...), or None", found=repr(hold)[:60])
    if isinstance(host, nn.Module) or not callable(host):
        remedy = (
            "Pass a function of the mounted cell, images and the number of classes, such as composer.hosts.residual_host()."
        )
        raise InputError("not a factory of a host", code="HOST", found=type(host).__name__, remedy=remedy)
