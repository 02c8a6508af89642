"""Parts of a viability test: each is computed once, cached, shared between cells, and reported as progress."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import product
from typing import Any, TypeVar

import torch

from batteries.cell.cell import Cell
from batteries.data.probes import Probe
from batteries.engine import parallel
from batteries.geometry.estimates import Estimate
from batteries.io.canonical_json import Document
from batteries.measurement.content import mean_error
from batteries.measurement.measure import Reading, read
from batteries.model.patch_svae import PatchSVAE
from composer.hosts.cell_hosts import HostFactory
from composer.hosts.tasks import Parts, Task
from registry.catalog.figures import DoseFigure, FrozenFigure, ReadOutFigure, ReturnFigure, Subject
from registry.checks.cell_checks import Measurement
from registry.checks.protocol import ViabilityProtocol
from registry.viability.controls import untrained_cell
from registry.viability.readouts import read_outs
from registry.viability.result_cache import ResultCache
from registry.viability.tasks import own_images, own_tasks
from registry.viability.trials import Trial, dose_figure, frozen_trial, return_trial

Progress = Callable[[str, int, int], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Part:
    """A part of a test that can be computed apart.

    Attributes:
        kind: Type of the result.
        words: Description for progress.
        key: Everything that the result depends on.
        make: Computes the result.
    """

    kind: type[Document]
    words: str
    key: Mapping[str, Any]
    make: Callable[[], Any]


@dataclass(frozen=True)
class Trials:
    """Trials of a cell in hosts.

    Attributes:
        frozen: Trials of the frozen cell.
        doses: Trials under the host's gradient, at every rate.
        returns: Recoveries of the cell, and of an untrained one, from the largest dose.
    """

    frozen: tuple[FrozenFigure, ...] = ()
    doses: tuple[DoseFigure, ...] = ()
    returns: tuple[ReturnFigure, ...] = ()


NO_TRIALS = Trials()


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
        progress: Called before every part with its description, the parts done and the parts in total; one call at a time.
        side_by_side: Whether trials may run in parallel threads, as those in hosts of our own do.
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
    side_by_side: bool = True
    parts: int = 0
    done: int = 0
    _trials: dict[tuple[str, Subject], Trial] = field(default_factory=dict)
    _untrained: dict[str, int] = field(default_factory=dict)
    _telling: threading.Lock = field(default_factory=threading.Lock)

    def told(self, words: str) -> None:
        """Report that a part begins."""
        with self._telling:
            self.progress(words, self.done, self.parts)
            self.done += 1

    def null(self) -> NullFigures:
        """Return the figures of untrained cells; their seeds are fixed, so that all tests of a spec share one null."""
        self.told("untrained cells of the same spec")
        key = {"spec": self.cell.spec.model_dump(mode="json"), "tasks": [task.name for task in self.tasks]}
        return self.cache.recall(NullFigures, key | self._numbers, self._make_null)

    def untrained(self, seed: int) -> Cell:
        """Return an untrained cell; results of it are kept under its seed, since its last bits are those of a machine."""
        cell = untrained_cell(self.cell, seed)
        self._untrained[cell.digest] = seed
        return cell

    def frozen(self, cell: Cell, seeds: int, tasks: Sequence[Task]) -> tuple[FrozenFigure, ...]:
        """Run tasks in every host around a frozen cell, ``seeds`` times each."""
        return tuple(self._all(list(self._frozen(cell, seeds, tasks))))

    def trials(self, frozen: tuple[FrozenFigure, ...]) -> Trials:
        """Run the trials under the host's gradient, after the frozen ones."""
        own, *doses, untrained = self._all([self._way_back("cell"), *self._doses(), self._way_back("untrained")])
        return Trials(frozen, tuple(doses), (own, untrained))

    def untrained_return(self) -> ReturnFigure:
        """Run the recovery of an untrained cell of the same spec."""
        (found,) = self._all([self._way_back("untrained")])
        return found

    @cached_property
    def reading(self) -> Reading:
        """Reading of the cell itself on the own probe."""
        return self.read(PatchSVAE.from_cell(self.cell))

    def read(self, model: PatchSVAE) -> Reading:
        """Run a model on the own probe."""
        return read(model, self.probe.images, self.probe.cluster)

    def readouts(self, model: PatchSVAE, subject: Subject = "cell") -> tuple[ReadOutFigure, ...]:
        """Measure the read-outs of M and of omega of a model, on clean images of the own domain."""
        return read_outs(model, self.naming, subject, self.own_images if len(self.probe.groups) == 1 else None)

    @property
    def naming(self) -> Task:
        """Task of naming clean images; its seed is fixed, so that cells and null read the same images."""
        return next(task for task in own_tasks(self.probe, self.protocol, 0) if not task.restores)

    @property
    def own_images(self) -> Parts:
        """Clean images of the own domain with their labels: those of :attr:`naming`, unless there is a single type to name."""
        return own_images(self.probe, self.protocol, 0)

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
        untrained = self._untrained.get(cell.digest)
        subject = {"cell": cell.digest} if untrained is None else {"untrained": untrained}
        return subject | {"spec": spec, "task": task.name} | seeds | self._numbers

    def _trial(self, cell: Cell, subject: Subject = "cell") -> Trial:
        if (key := (cell.digest, subject)) not in self._trials:
            reading = self.reading if cell is self.cell else None
            self._trials[key] = Trial(cell, subject, self.protocol, self.probe, reading)
        return self._trials[key]

    def _frozen(self, cell: Cell, seeds: int, tasks: Sequence[Task]) -> Iterator[Part]:
        trial, words, own = self._trial(cell), "frozen in a host: {}", cell is self.cell
        for task, (name, factory), i in product(tasks, self.hosts.items(), range(seeds)):
            seed = self.seed + i
            key = self._key(cell, task, seed) | {"host": name} | ({"audited": True} if own else {})
            make = partial(frozen_trial, trial, task, name, factory, seed, audited=own)
            yield Part(FrozenFigure, words.format(task.name), key, make)

    def _doses(self) -> Iterator[Part]:
        p, trial, task = self.protocol, self._trial(self.cell), self.tasks[-1]
        for rate in p.dose_rates:
            for i in range(p.reference_seeds if rate == p.reference_rate else p.dose_seeds):
                seed = self.seed + i
                key = self._key(self.cell, task, seed) | {"rate": rate}
                make = partial(dose_figure, trial, task, self._host, rate, seed)
                yield Part(DoseFigure, f"under its host's gradient at {rate:g}", key, make)

    def _way_back(self, subject: Subject) -> Part:
        cell = self.cell if subject == "cell" else self.untrained(0)
        task, rate = self.tasks[-1], self.protocol.dose_rates[-1]
        key = self._key(cell, task, self.seed) | {"rate": rate}
        make = partial(return_trial, self._trial(cell, subject), task, self._host, rate, self.seed)
        return Part(ReturnFigure, "recovery training", key, make)

    def _all(self, parts: Sequence[Part]) -> list[Any]:
        """Return the results of parts that do not depend on each other."""

        def result(part: Part) -> Document:
            self.told(part.words)
            return self.cache.recall(part.kind, part.key, part.make)

        return self.each([partial(result, part) for part in parts])

    def each(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        """Return the results of independent calls, made in parallel threads where that is safe."""
        return parallel.results(calls, long=True) if self.side_by_side else [call() for call in calls]

    def _make_null(self) -> NullFigures:
        p, hosts = self.protocol, list(self.hosts.items())
        tasks = own_tasks(self.probe, p, 0) if len(hosts) > 1 else self.tasks
        fresh = [untrained_cell(self.cell, i) for i in range(p.untrained)]
        models = [PatchSVAE.from_cell(cell) for cell in fresh]
        found = [measurement(self.read(model), self.probe) for model in models]
        frozen = self.each(
            [
                partial(frozen_trial, self._trial(cell, "untrained"), task, *hosts[i % len(hosts)], i)
                for i, cell in enumerate(fresh)
                for task in tasks
            ]
        )
        first = self._trial(fresh[0], "untrained")
        doses = self.each([partial(dose_figure, first, tasks[-1], self._host, rate, 0) for rate in p.dose_rates])
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
        mean_baseline=mean_error(own.images),
    )
