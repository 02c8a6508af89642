"""Training loop of an adaptation: a host and a cell learn together, and the guard takes the cell back where it does not hold.

Everything random of a step is seeded by (seed, step), and torch has one thread, so that the same seed gives the same bits.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from batteries.cell.cell import Cell
from batteries.cell.manifest import TrainingPoint
from batteries.data.probes import probe
from batteries.data.sources import seed_of
from batteries.engine import parallel
from batteries.engine.threads import threads
from batteries.errors import PolicyError
from batteries.geometry.estimates import Estimate
from batteries.images.image_batch import unjudged
from batteries.model.patch_svae import PatchSVAE
from batteries.training.optimisers import optimisers_of
from batteries.training.plan import Plan
from batteries.training.schedules import share
from composer.adaptation.domains import OwnDomain
from composer.adaptation.guard import AdaptMoment, Guard
from composer.adaptation.hold import Hold
from composer.adaptation.terms import Terms
from composer.hosts.cell_hosts import HostFactory
from composer.hosts.host_training import Watched, make_host, score, task_loss
from composer.hosts.tasks import Task

BATCH, HOST = 10, 1024  # purpose of the seed of a step's images; most patches per step for a host that restores every patch
TRIAGE_STEP: int = Plan.model_fields["triage_step"].default  # where a long run needs a reading
Ended = Literal["finished", "guard"]
Progress = Callable[[int, float, AdaptMoment | None], None]  # step, loss of the host, last look of the guard


@dataclass(frozen=True)
class Job:
    """Everything that determines an adaptation.

    Attributes:
        cell: Parent.
        factory: Factory of the host.
        task: Task of the host.
        domain: Own domain of the cell.
        hold: Terms and guard; None for a raw gradient.
        plan: Peak rate, its schedule, optimiser, steps, batch and seed of the cell's weights.
        host_rate: Peak of Adam's learning rate of the host's weights, of the same schedule.
    """

    cell: Cell
    factory: HostFactory
    task: Task
    domain: OwnDomain
    hold: Hold | None
    plan: Plan
    host_rate: float

    @property
    def batch(self) -> int:
        """Images per step; fewer for a host that restores images, which reads every patch."""
        rows, columns = self.cell.spec.grid(*self.task.train[0].shape[2:])
        return max(1, min(self.plan.batch, HOST // (rows * columns))) if self.task.restores else self.plan.batch

    @cached_property
    def scale(self) -> float:
        """Divisor of the host's loss: the variance of images to be restored, so that the loss is 1 - R2; else 1."""
        targets = self.task.train[1]
        return float((targets - targets.mean()).square().mean()) if self.task.restores else 1.0


@dataclass(frozen=True, eq=False)
class Learned:
    """End of an adaptation.

    Attributes:
        model: Changed model, in the last state that held.
        host: Host around it, in that state.
        score: Score of the host on test images.
        moments: Looks of the guard, those after which the cell went back included.
        points: Readings of the own probe along the way to the state that was kept.
        ended: ``finished``, or ``guard``.
        dose: Sum of the cell's learning rates over the steps to that state.
        backoffs: Returns to an earlier state.
    """

    model: PatchSVAE
    host: nn.Module
    score: Estimate
    moments: tuple[AdaptMoment, ...]
    points: tuple[TrainingPoint, ...]
    ended: Ended
    dose: float
    backoffs: int

    @property
    def last(self) -> AdaptMoment:
        """Figures of the state that was kept."""
        return next(moment for moment in reversed(self.moments) if moment.step == self.points[-1].step)


@dataclass
class Course:
    """State of an adaptation between two steps.

    Attributes:
        model: Model of the cell.
        host: Host around it.
        optimisers: Optimiser of the host, then those of the cell.
        step: Steps taken.
        rate: Peak learning rate of the cell's weights.
        dose: Sum of the learning rates over the steps.
        points: Readings of the own probe, one of each state that held.
    """

    model: PatchSVAE
    host: nn.Module
    optimisers: tuple[Optimizer, ...]
    rate: float
    step: int = 0
    dose: float = 0.0
    points: list[TrainingPoint] = field(default_factory=list)

    @property
    def _parts(self) -> tuple[nn.Module | Optimizer, ...]:
        return self.model, self.host, *self.optimisers

    def state(self) -> dict[str, Any]:
        """Copy all but the rate."""
        parts = [part.state_dict() for part in self._parts]
        return copy.deepcopy({"parts": parts, "step": self.step, "dose": self.dose, "points": self.points})

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a copy of :meth:`state`, at the rate of now."""
        state = copy.deepcopy(state)
        for part, saved in zip(self._parts, state["parts"], strict=True):
            part.load_state_dict(saved)
        self.step, self.dose, self.points = state["step"], state["dose"], state["points"]

    def learn_at(self, host: float, cell: float) -> None:
        """Set the learning rates of the host's and the cell's weights."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = host if optimiser is self.optimisers[0] else cell


def learn(job: Job, progress: Progress = lambda step, loss, moment: None) -> Learned:
    """Train a host and its cell.

    Raises:
        InputError: an unusable host, as in :func:`composer.hosts.host_training.make_host`.
        PolicyError: a loss or gradient that is not finite (``DIVERGED``), no state that held (``NOT_HELD``), or a parent
            without content to hold (``NO_CONTENT``).
    """
    with threads(1), unjudged():
        model = PatchSVAE.from_cell(job.cell)
        start = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        guard = Guard(model, probe(job.cell.manifest.own_probe), job.domain, (job.hold or Hold()).content)
        _refuse_no_content(job, guard)
        terms = _terms(job, guard)
        watched = Watched(model)
        host = make_host(job.factory, watched, job.task, job.plan.seed)
        own = [parameter for parameter in host.parameters() if parameter.requires_grad]
        head = torch.optim.Adam(own, lr=job.host_rate)
        course = Course(model, host, (head, *optimisers_of(job.plan, model)), job.plan.rate)
        moments: list[AdaptMoment] = []
        held, backoffs = course.state(), 0
        ended: Ended = "finished"
        while course.step < job.plan.steps:
            loss = _step(job, course, terms)
            if not _is_looked_at(course.step, job):
                progress(course.step, loss, moments[-1] if moments else None)
                continue
            moment, point = guard.look(model, course.step, course.rate, change(model, start))
            moments.append(moment)
            progress(course.step, loss, moment)
            if job.hold is None or not job.hold.guarded or moment.holds:
                course.points.append(point)
                held = course.state()
                continue
            course.restore(held)
            if backoffs == job.hold.backoffs:
                ended = "guard"
                break
            backoffs += 1
            course.rate /= 2
        if not course.points:
            raise _not_held(job, moments)
        found = score(host, job.task, watched)[0]
    return Learned(model, host, found, tuple(moments), tuple(course.points), ended, course.dose, backoffs)


def change(model: PatchSVAE, start: Tensor) -> float:
    """Return the change of the weights of a model since ``start``, norm(dW) / norm(W)."""
    now = nn.utils.parameters_to_vector(model.parameters()).detach()
    return float((now - start).norm() / start.norm())


def _refuse_no_content(job: Job, guard: Guard) -> None:
    if job.hold is not None and not guard.explained > 0:
        raise PolicyError(
            "no content to hold",
            code="NO_CONTENT",
            expected=f"an error below {guard.mean:.4g}, that of the mean colour, on {job.domain.words}",
            found=f"{guard.error:.4g}",
            where=job.cell.name,
        )


def _terms(job: Job, guard: Guard) -> Terms | None:
    if job.hold is None:
        return None
    parent = PatchSVAE.from_cell(job.cell).requires_grad_(False)
    size = job.domain.images.shape[-1]
    terms = Terms(job.hold, job.domain.source, size, parent, guard.explained, guard.axial_cv, job.plan.seed)
    return terms if terms.any else None


def _is_looked_at(step: int, job: Job) -> bool:
    every = (job.hold or Hold()).every
    return step % every == 0 or step in (TRIAGE_STEP, job.plan.steps)


def _step(job: Job, course: Course, terms: Terms | None) -> float:
    """Take one step of host and cell, and return the host's loss."""
    parallel.leave_if_failed()
    images, targets = job.task.train
    now = share(job.plan.schedule, course.step, job.plan.steps)
    course.learn_at(now * job.host_rate, now * course.rate)
    generator = Generator().manual_seed(seed_of(job.plan.seed, course.step, BATCH))
    chosen = torch.randint(len(images), (job.batch,), generator=generator)
    loss = task_loss(course.host(images[chosen]), targets[chosen]) / job.scale
    whole = loss if terms is None else loss + terms.loss(course.model, course.step)
    for optimiser in course.optimisers:
        optimiser.zero_grad()
    whole.backward()
    reached = [p.grad for o in course.optimisers for group in o.param_groups for p in group["params"] if p.grad is not None]
    if not math.isfinite(whole.item() + float(nn.utils.get_total_norm(reached))):
        raise PolicyError(
            "adaptation diverged",
            code="DIVERGED",
            found=f"loss {whole.item()}",
            where=f"step {course.step + 1}",
            remedy="Lower the rates; the parent is unchanged.",
        )
    for optimiser in course.optimisers:
        optimiser.step()
    course.step += 1
    course.dose += now * course.rate
    return loss.item()


def _not_held(job: Job, moments: list[AdaptMoment]) -> PolicyError:
    return PolicyError(
        "no state of the adaptation holds",
        code="NOT_HELD",
        expected=f"{job.cell.name} within its bounds after {moments[0].step} steps",
        found="; ".join(moments[-1].faults),
        where=job.task.name,
        remedy="Lower the rate, or raise the weights of the hold.",
    )
