"""Carrying out a program: the runs without a report, on an engine, each claimed by one driver and written as it arrives.

A folder holds one program: its text, a folder for every run with ``final_report.json``, ``timing.json`` and TensorBoard events,
and the locks by which drivers share it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from batteries.ablation import program as programs
from batteries.ablation import run_report
from batteries.ablation.execution import carry_out_run
from batteries.ablation.program import Program
from batteries.ablation.run_report import TIMING, RunReport, Timing
from batteries.ablation.runs import AblationRun, distinct, runs_of
from batteries.engine import task_runner
from batteries.engine.task_runner import Run
from batteries.engine.tasks import Task
from batteries.errors import BatteriesError, ConflictError, StoreError
from batteries.io import atomic_files, folders
from batteries.io.file_lock import lock

PROGRAM = "program.toml"
LOCKS = ".locks"
CHECKPOINT = "checkpoint.safetensors"
POLL = 2.0  # seconds between looks at runs that another driver carries out


@dataclass
class Progress:
    """State of a program in a folder.

    Attributes:
        runs: Number of runs asked for.
        done: Number of these with a report.
        failed: Errors by the name of a run.
    """

    runs: int
    done: int = 0
    failed: dict[str, BatteriesError] = field(default_factory=dict)


def carry_out(
    program: Program,
    text: bytes,
    runs: Sequence[AblationRun],
    folder: Path,
    *,
    run: Run = task_runner.run,
    shown: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Carry out the runs that have no report; a run that fails is left for the next time, and the others go on.

    Args:
        program: Program of the folder.
        text: Text of the program, kept in the folder.
        runs: Runs to carry out.
        folder: Folder of the results, made if missing.
        run: Function that runs tasks and yields their outcomes; by default one process per processor.
        shown: Function that receives the progress whenever it changes.

    Raises:
        ConflictError: folder of another program (``OTHER_PROGRAM``), or report of another run of that name (``RUN_CHANGED``).
        StoreError: report that cannot be written; the finished ones are kept.
    """
    folder = folder.absolute()  # a worker may have another working directory
    refuse_other_program(program, folder)
    wanted = distinct(runs)
    missing = _Missing(folder, wanted, distinct(runs_of(program)))
    for identity in wanted:
        missing.reports(identity)  # refuses a changed run before anything is written
    atomic_files.replace(folder / PROGRAM, text)
    progress = Progress(len(runs))

    def count_known() -> None:
        for identity in missing.take_known():
            progress.done += len(wanted[identity])
        shown(progress)

    count_known()
    while missing.left:
        before = len(missing.left)
        with ExitStack() as claims:
            for outcome in run(missing.claimed(claims)):
                identity = outcome.task.name
                if outcome.error is None:
                    missing.finish(identity, *outcome.value)
                    progress.done += len(wanted[identity])
                else:
                    progress.failed |= {one.name: outcome.error for one in wanted[identity]}
                missing.end(identity)
                shown(progress)
        count_known()
        if len(missing.left) == before:  # other drivers hold the rest
            time.sleep(POLL)
    return progress


class _Missing:
    """Computations without a report, and the claims of this driver on them.

    Args:
        folder: Folder of the program.
        wanted: Runs to carry out, by identity.
        siblings: All runs of the program by identity, any of whose reports will do.
    """

    def __init__(
        self, folder: Path, wanted: Mapping[str, Sequence[AblationRun]], siblings: Mapping[str, Sequence[AblationRun]]
    ) -> None:
        self._folder, self._wanted, self._siblings = folder, wanted, siblings
        self._claims: dict[str, ExitStack] = {}
        self.left = list(wanted)

    def take_known(self) -> list[str]:
        """Take out and return what has a report by now."""
        known = [identity for identity in self.left if self._reported(identity)]
        taken = set(known)
        self.left = [identity for identity in self.left if identity not in taken]
        return known

    def claimed(self, claims: ExitStack) -> Iterator[Task]:
        """Yield a task for each computation that no other driver holds, locked until :meth:`end` or the end of ``claims``."""
        for identity in list(self.left):
            held = ExitStack()
            try:
                held.enter_context(lock(self._folder / LOCKS / f"{identity}.lock", 0))
            except StoreError as error:
                if error.code != "LOCK_TIMEOUT":
                    raise
                continue
            self._claims[identity] = claims.enter_context(held)
            if self._reported(identity):  # by another driver, since the list was made
                self._claims.pop(identity).close()
                continue
            place = self._place(identity)
            with atomic_files.typed(place, writing=True):
                folders.make(place)
            yield Task(identity, carry_out_run, (self._wanted[identity][0], place))

    def finish(self, identity: str, report: RunReport, timing: Timing) -> None:
        """Write the reports of a computation, and remove its checkpoint."""
        atomic_files.replace(self._place(identity) / TIMING, timing.to_bytes())
        self._write(report, self._wanted[identity])
        atomic_files.remove(self._place(identity) / CHECKPOINT)

    def end(self, identity: str) -> None:
        """Give up the claim on a computation that ended."""
        self.left.remove(identity)
        self._claims.pop(identity).close()

    def _place(self, identity: str) -> Path:
        return run_report.path_of(self._folder, self._wanted[identity][0].name).parent

    def reports(self, identity: str) -> dict[str, RunReport]:
        """Return the reports of a computation by name of its run.

        Raises:
            ConflictError: report of another computation (``RUN_CHANGED``).
        """
        paths = {run.name: run_report.path_of(self._folder, run.name) for run in self._siblings[identity]}
        found = {name: run_report.read(path) for name, path in paths.items() if run_report.exists(path)}
        for name, report in found.items():
            run_report.refuse_other(report, identity, paths[name])
        return found

    def _reported(self, identity: str) -> bool:
        """Return True if a computation has a report, after writing it for all runs that are wanted."""
        found = self.reports(identity)
        if found:
            atomic_files.remove(self._place(identity) / CHECKPOINT)  # of a driver that was killed in between
            self._write(next(iter(found.values())), [run for run in self._wanted[identity] if run.name not in found])
        return bool(found)

    def _write(self, report: RunReport, runs: Sequence[AblationRun]) -> None:
        for run in runs:
            atomic_files.replace(run_report.path_of(self._folder, run.name), run_report.named(report, run).to_bytes())


def refuse_other_program(program: Program, folder: Path) -> None:
    """Refuse the folder of a program of another name.

    Raises:
        ConflictError: folder of another program (``OTHER_PROGRAM``).
    """
    path = folder / PROGRAM
    if run_report.exists(path):
        kept = programs.parse(atomic_files.read(path, limit=programs.MAX_PROGRAM), where=path)
        if kept.name != program.name:
            raise ConflictError(
                "folder of another program",
                code="OTHER_PROGRAM",
                expected=program.name,
                found=kept.name,
                where=folder,
                remedy="Name another folder with --out.",
            )


def without_report(program: Program, runs: Sequence[AblationRun], folder: Path) -> list[AblationRun]:
    """Return the runs whose computation has no report in a folder, which need not exist.

    Raises:
        ConflictError: folder of another program (``OTHER_PROGRAM``), or report of another run of that name (``RUN_CHANGED``).
    """
    refuse_other_program(program, folder)
    wanted = distinct(runs)
    missing = _Missing(folder, wanted, distinct(runs_of(program)))
    left = {identity for identity in wanted if not missing.reports(identity)}
    return [run for run in runs if run.identity in left]
