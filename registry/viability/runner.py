"""Parts of a viability test: each is computed once, cached, shared between cells, and reported as progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from batteries.cell.cell import Cell
from batteries.data.probes import Probe
from batteries.geometry.estimates import Estimate
from batteries.io.canonical_json import Document
from batteries.measurement.measure import Reading, read
from batteries.model.patch_svae import PatchSVAE
from composer.hosts.cell_hosts import HostFactory
from registry.catalog.figures import DoseFigure, FrozenFigure, ReadOutFigure, ReturnFigure, Subject
from registry.checks.cell_checks import Measurement
from registry.checks.protocol import ViabilityProtocol
from registry.viability.controls import untrained_cell
from registry.viability.readouts import read_outs
from registry.viability.result_cache import ResultCache
from registry.viability.tasks import Task, own_tasks
from registry.viability.trials import Trial, dose_trial, frozen_trial, mean_error, return_trial

Progress = Callable[[str, int, int], None]


class NullFigures(Document):
    """Figures of untrained cells of a spec under a protocol, shared by all cells of the spec.

    Attributes:
        mse: Error of each cell on the probe.
        cv: Published CV of each cell that has one.
        axial_cv: Axial CV of each cell that has one: already on the attractor, hence CV alone proves nothing.
        frozen: Frozen trials of the cells.
        doses: Dose trials of the first cell.
        readouts: Read-outs of M and of omega of each cell.
    """

    mse: tuple[float, ...]
    cv: tuple[float, ...]
    axial_cv: tuple[float, ...]
    frozen: tuple[FrozenFigure, ...]
    doses: tuple[DoseFigure, ...]
    readouts: tuple[ReadOutFigure, ...]


@dataclass
class Runner:
    """Shared state of the parts of one test.

    Attributes:
        cell: Cell under test.
        protocol: Numbers of the test.
        probe: Probe of the cell's own domain.
        tasks: Tasks that hosts learn; the last is that of the dose trials.
        hosts: Hosts by name; the first is that of the dose trials.
        seed: Seed of everything random but the null.
        cache: Cache of finished parts.
        progress: Called before every part with its description, the parts done and the parts in total.
        parts: Number of parts.
        done: Number of parts begun.
    """

    cell: Cell
    protocol: ViabilityProtocol
    probe: Probe
    tasks: tuple[Task, ...]
    hosts: Mapping[str, HostFactory]
    seed: int
    cache: ResultCache
    progress: Progress
    parts: int = 0
    done: int = 0
    _trials: dict[tuple[str, Subject], Trial] = field(default_factory=dict)

    def told(self, words: str) -> None:
        """Report that a part begins."""
        self.progress(words, self.done, self.parts)
        self.done += 1

    def null(self) -> NullFigures:
        """Return the figures of untrained cells; their seeds are fixed, so that all tests of a spec share one null."""
        self.told("untrained cells of the same spec")
        key = {"spec": self.cell.spec.model_dump(mode="json"), "tasks": [task.name for task in self.tasks]}
        return self.cache.recall(NullFigures, key | self._numbers, self._make_null)

    def frozen(self, cell: Cell, seeds: int, tasks: Sequence[Task]) -> tuple[FrozenFigure, ...]:
        """Run tasks in every host around a frozen cell, ``seeds`` times each."""
        found = []
        for task in tasks:
            for name, factory in self.hosts.items():
                for seed in range(self.seed, self.seed + seeds):
                    self.told(f"frozen in a host: {task.name}")
                    key = self._key(cell, task, seed) | {"host": name}
                    make = partial(frozen_trial, self._trial(cell), task, name, factory, seed)
                    found.append(self.cache.recall(FrozenFigure, key, make))
        return tuple(found)

    def doses(self) -> tuple[DoseFigure, ...]:
        """Run the dose trials of the cell at every rate."""
        p = self.protocol
        seeds = {rate: p.reference_seeds if rate == p.reference_rate else p.dose_seeds for rate in p.dose_rates}
        return tuple(self._dose(rate, self.seed + i) for rate in p.dose_rates for i in range(seeds[rate]))

    def way_back(self, cell: Cell, subject: Subject) -> ReturnFigure:
        """Run reconstruction training of a cell after the largest dose."""
        self.told("recovery training")
        p, task = self.protocol, self.tasks[-1]
        key = self._key(cell, task, self.seed) | {"rate": p.dose_rates[-1]}
        make = partial(return_trial, self._trial(cell, subject), task, self._host, p.dose_rates[-1], self.seed)
        return self.cache.recall(ReturnFigure, key, make)

    def read(self, model: PatchSVAE) -> Reading:
        """Run a model on the own probe."""
        return read(model, self.probe.images, self.probe.cluster)

    def readouts(self, model: PatchSVAE, subject: Subject = "cell") -> tuple[ReadOutFigure, ...]:
        """Measure the read-outs of M and of omega of a model, on clean images of the own domain."""
        return read_outs(model, self.naming, subject)

    @property
    def naming(self) -> Task:
        """Task of naming clean images of the own domain; its seed is fixed, so that cells and null read the same images."""
        return next(task for task in own_tasks(self.probe, self.protocol, 0) if not task.restores)

    @property
    def deciding(self) -> tuple[Task, ...]:
        """Tasks that the verdict depends on."""
        return tuple(task for task in self.tasks if task.decides)

    @property
    def parts_of_a_cell(self) -> int:
        """Number of parts of a cell's own test: null, controls, own probe, frozen trials, doses, two recoveries."""
        p = self.protocol
        hosted = len(self.hosts) * (len(self.tasks) * p.frozen_seeds + len(self.deciding))
        return 5 + hosted + (len(p.dose_rates) - 1) * p.dose_seeds + p.reference_seeds

    @property
    def _host(self) -> HostFactory:
        return next(iter(self.hosts.values()))

    @property
    def _numbers(self) -> dict[str, Any]:
        return {"protocol": self.protocol.digest, "probe": self.probe.digest}

    def _key(self, cell: Cell, task: Task, seed: int) -> dict[str, Any]:
        """Return the cache key of a trial; it includes the test's seed, on which the tasks' images depend."""
        spec = cell.spec.model_dump(mode="json")
        seeds = {"seed": seed, "test": self.seed}
        return {"cell": cell.digest, "spec": spec, "task": task.name} | seeds | self._numbers

    def _trial(self, cell: Cell, subject: Subject = "cell") -> Trial:
        return self._trials.setdefault((cell.digest, subject), Trial(cell, subject, self.protocol, self.probe))

    def _dose(self, rate: float, seed: int) -> DoseFigure:
        self.told(f"under its host's gradient at {rate:g}")
        trial, task = self._trial(self.cell), self.tasks[-1]
        key = self._key(self.cell, task, seed) | {"rate": rate}
        return self.cache.recall(DoseFigure, key, lambda: dose_trial(trial, task, self._host, rate, seed)[0])

    def _make_null(self) -> NullFigures:
        p, hosts = self.protocol, list(self.hosts.items())
        tasks = own_tasks(self.probe, p, 0) if len(hosts) > 1 else self.tasks
        fresh = [untrained_cell(self.cell, i) for i in range(p.untrained)]
        models = [PatchSVAE.from_cell(cell) for cell in fresh]
        found = [measurement(self.read(model), self.probe) for model in models]
        frozen = [
            frozen_trial(self._trial(cell, "untrained"), task, *hosts[i % len(hosts)], i)
            for i, cell in enumerate(fresh)
            for task in tasks
        ]
        first = self._trial(fresh[0], "untrained")
        doses = [dose_trial(first, tasks[-1], self._host, rate, 0)[0] for rate in p.dose_rates]
        return NullFigures(
            mse=tuple(m.mse.value for m in found),
            cv=tuple(m.cv.value for m in found if isinstance(m.cv, Estimate)),
            axial_cv=tuple(m.axial_cv.value for m in found if isinstance(m.axial_cv, Estimate)),
            frozen=tuple(frozen),
            doses=tuple(doses),
            readouts=tuple(figure for model in models for figure in self.readouts(model, "untrained")),
        )


def measurement(reading: Reading, own: Probe) -> Measurement:
    """Derive the figures without a host from a reading of the own probe."""
    return Measurement(
        finite=bool(torch.isfinite(reading.mse).all()),
        radius_error=reading.radius_error,
        cv=reading.cv(),
        axial_cv=reading.axial_cv(),
        rank=reading.effective_rank(),
        mse=reading.error(),
        mean_baseline=mean_error(own),
    )
