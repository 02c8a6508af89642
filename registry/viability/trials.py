"""Trials of a cell in a host: frozen, dosed (the host's gradient changes the cell), and recovery after a dose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

import composer
from batteries.cell.cell import Cell
from batteries.data.probes import Probe
from batteries.data.sources import NoiseSource, seed_of
from batteries.engine import parallel
from batteries.geometry import estimates, row_figures, simplex_cv
from batteries.geometry.estimates import Estimate
from batteries.geometry.simplex_cv import Degenerate
from batteries.measurement.content import kept, mean_error
from batteries.measurement.measure import Reading, finite_or_none, read
from batteries.model.patch_svae import PatchSVAE
from composer.hosts.cell_hosts import FrozenCell, HostFactory, Mounted
from composer.hosts.host_training import Watched, learn, make_host, score
from composer.hosts.tasks import Task
from registry.catalog.figures import DoseFigure, FrozenFigure, Moment, Ratio, ReturnFigure, Subject
from registry.checks.figures import within
from registry.checks.host_audit import HostAudits
from registry.checks.protocol import ViabilityProtocol


@dataclass(frozen=True)
class State:
    """Figures of a cell at one step, on fixed images."""

    cv: Estimate | Degenerate
    axial_cv: Estimate | Degenerate
    rank: Estimate
    mse: float

    @classmethod
    def of(cls, reading: Reading) -> State:
        """Derive the figures of a reading."""
        return cls(reading.cv(), reading.axial_cv(), reading.effective_rank(), float(reading.mse.mean()))

    def moment(self, step: int) -> Moment:
        """Convert to the form of an attestation."""
        (cv, error), (axial, axial_error) = _numbers(self.cv), _numbers(self.axial_cv)
        return Moment(
            step=step,
            cv=cv,
            cv_error=error,
            rank=self.rank.value,
            mse=self.mse,
            axial_cv=axial,
            axial_cv_error=axial_error,
        )


@dataclass(frozen=True)
class Trial:
    """Shared state of all trials of one subject.

    Attributes:
        cell: Cell under trial.
        subject: Role of the cell in the report.
        protocol: Numbers of the test.
        probe: Probe of the cell's own domain.
        reading: Reading of the cell on the probe, where it is at hand.
    """

    cell: Cell
    subject: Subject
    protocol: ViabilityProtocol
    probe: Probe
    reading: Reading | None = None

    @cached_property
    def before(self) -> State:
        """State of the cell before any training."""
        return State.of(self.reading) if self.reading else _state(PatchSVAE.from_cell(self.cell), self.probe)

    def learn(self, host: nn.Module, task: Task, seed: int, watched: Watched, **more: Any) -> float | None:
        """Call :func:`composer.hosts.host_training.learn` with the protocol's numbers."""
        rows, columns = self.cell.spec.grid(*task.train[0].shape[2:])
        most = self.protocol.patches // (rows * columns) if task.restores else self.protocol.batch
        batch = max(1, min(self.protocol.batch, most))
        return learn(host, task, seed, watched, batch=batch, rate=self.protocol.host_rate, **more)


def frozen_trial(
    trial: Trial, task: Task, host_name: str, factory: HostFactory, seed: int, audited: bool = False
) -> FrozenFigure:
    """Train a host on a task around the frozen cell; audit it before and after, if asked.

    Raises:
        InputError: an unusable host, as in :func:`composer.hosts.host_training.make_host`.
    """
    container = composer.compose([trial.cell])
    digest = container.digest
    mounted = FrozenCell(container)
    watched = Watched(mounted)
    host = make_host(factory, watched, task, seed)
    _, fed = score(host, task, watched)
    before = _rows_and_rank(mounted, fed)
    audits = HostAudits(task) if audited else None
    if audits:
        audits.look(host, "made")
    gradient = trial.learn(host, task, seed, watched, steps=trial.protocol.host_steps)
    if audits and gradient is not None:
        audits.look(host, "trained")
    found, fed = score(host, task, watched)
    after = _rows_and_rank(mounted, fed)
    return FrozenFigure(
        subject=trial.subject,
        task=task.name,
        host=host_name,
        seed=seed,
        score=found.value,
        score_error=found.standard_error,
        gradient=gradient,
        cv=_ratio(before.cv, after.cv),
        axial_cv=_ratio(before.axial_cv, after.axial_cv),
        rank=_held(before.rank, after.rank),
        unchanged=container.digest == digest,
        audits=audits.figures if audits else (),
    )


def dose_trial(trial: Trial, task: Task, factory: HostFactory, rate: float, seed: int) -> tuple[DoseFigure, PatchSVAE]:
    """Train a host together with the cell's weights, at a rate of their own; also return the changed model."""
    protocol, probe = trial.protocol, trial.probe
    model = PatchSVAE.from_cell(trial.cell)
    weights = list(model.parameters())
    start = nn.utils.parameters_to_vector(weights).detach().clone()
    before = trial.before
    moments = [before.moment(0)]
    watched = Watched(model)
    host = make_host(factory, watched, task, seed)
    every = -(-protocol.dose_steps // protocol.readings)

    def look(step: int) -> None:
        if step % every == 0 and step < protocol.dose_steps:
            moments.append(_state(model, probe).moment(step))

    doses = {"params": weights, "lr": rate}
    trial.learn(host, task, seed, watched, steps=protocol.dose_steps, cell=[doses], look=look)
    after = _state(model, probe)
    moments.append(after.moment(protocol.dose_steps))
    change = nn.utils.parameters_to_vector(weights).detach() - start
    figure = DoseFigure(
        subject=trial.subject,
        rate=rate,
        seed=seed,
        score=score(host, task, watched)[0].value,
        weight_change=float(change.norm() / start.norm()),
        cv=_ratio(before.cv, after.cv),
        axial_cv=_ratio(before.axial_cv, after.axial_cv),
        rank=_held(before.rank, after.rank),
        retention=after.mse / before.mse,
        kept=kept(before.mse, after.mse, mean_error(probe.images)),
        moments=tuple(moments),
    )
    return figure, model


def dose_figure(trial: Trial, task: Task, factory: HostFactory, rate: float, seed: int) -> DoseFigure:
    """Return the figure alone of :func:`dose_trial`."""
    return dose_trial(trial, task, factory, rate, seed)[0]


def return_trial(trial: Trial, task: Task, factory: HostFactory, rate: float, seed: int) -> ReturnFigure:
    """Change the cell by a dose, then train it to reconstruct its own domain until it has recovered."""
    protocol, probe = trial.protocol, trial.probe
    _, model = dose_trial(trial, task, factory, rate, seed)
    moments = [_state(model, probe).moment(0)]
    optimiser = torch.optim.Adam(model.parameters(), lr=protocol.return_rate)
    back: int | None = None
    for step, images in enumerate(_own_images(probe, task, protocol, seed), start=1):
        parallel.leave_if_failed()
        loss = (model(images).recon - images).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % protocol.return_every == 0 or step == protocol.return_limit:
            now = _state(model, probe)
            moments.append(now.moment(step))
            if is_back(trial.before, now, mean_error(probe.images), protocol.kept.value):
                back = step
                break
    return ReturnFigure(
        subject=trial.subject,
        rate=rate,
        seed=seed,
        limit=protocol.return_limit,
        steps=back,
        moments=tuple(moments),
    )


def is_back(before: State, now: State, mean: float, floor: float) -> bool:
    """Tell whether axial CV and rank hold against ``before``, and the content, if there was any, is kept."""
    content = before.mse >= mean or kept(before.mse, now.mse, mean) >= floor
    return content and within(_ratio(before.axial_cv, now.axial_cv)) and within(_held(before.rank, now.rank))


@dataclass(frozen=True)
class _Fed:
    """Figures of a frozen cell on what a host feeds it: the CVs of one matrix per image, and the rank of all tokens."""

    cv: Estimate | Degenerate
    axial_cv: Estimate | Degenerate
    rank: Estimate


@torch.no_grad()
def _rows_and_rank(cell: Mounted, images: Tensor) -> _Fed:
    matrices, ranks = [], []
    for part in images.split(64):
        found = cell.tokens(part)
        matrices.append(found.M[:, found.M.shape[1] // 2])
        ranks.append(row_figures.effective_rank(found.S).mean(dim=1))
    M, image = torch.cat(matrices), torch.arange(len(images))
    return _Fed(simplex_cv.cv(M, image), simplex_cv.axial_cv(M, image), estimates.clustered_mean(torch.cat(ranks), image))


def _state(model: PatchSVAE, probe: Probe) -> State:
    return State.of(read(model, probe.images, probe.cluster))


def _numbers(cv: Estimate | Degenerate) -> tuple[float | None, float | None]:
    """Return a CV and its standard error; a degenerate one has neither."""
    return (cv.value, finite_or_none(cv.standard_error)) if isinstance(cv, Estimate) else (None, None)


def _ratio(before: Estimate | Degenerate, after: Estimate | Degenerate) -> Ratio | None:
    if isinstance(before, Degenerate) or isinstance(after, Degenerate):
        return None
    return _held(before, after)


def _held(before: Estimate, after: Estimate) -> Ratio:
    held = estimates.holds(before, after)
    return held.ratio, held.lower, held.upper


def _own_images(own: Probe, task: Task, protocol: ViabilityProtocol, seed: int) -> Iterator[Tensor]:
    """Yield batches of a cell's own domain; of photographs, the parts that the tasks train on."""
    clean = task.train[1] if task.restores else task.train[0]
    for step in range(protocol.return_limit):
        if own.domain == "noise":
            yield NoiseSource.of_probe(own).batch(seed_of(seed, step, 3), protocol.return_batch, protocol.size)
        else:
            chosen = torch.randint(len(clean), (protocol.return_batch,), generator=torch.Generator().manual_seed(seed + step))
            yield clean[chosen]
