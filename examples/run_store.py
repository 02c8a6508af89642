"""Results of an example's runs, in files that outlast runs and machines: what each result has, and where it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import kept_lines

from batteries.cell.manifest import Sha256, Text, TrainingPoint
from batteries.io import atomic_files
from batteries.io.canonical_json import Document, load_document

MAX_RESULT = 2**16  # bytes


class Planned(Protocol):
    """Run of an example."""

    @property
    def name(self) -> str:
        """Name of its files."""
        ...

    @property
    def command(self) -> str:
        """Command that does it alone."""
        ...

    @property
    def plan_digest(self) -> str:
        """SHA-256 of all that its result depends on; results of other plans are ignored."""
        ...


class Losses(Document):
    """Losses of the read-outs of M and of omega alone."""

    M: float
    omega: float


class RunResult(Document):
    """Result of a run.

    Attributes:
        name: Name of the run.
        plan: SHA-256 of its plan.
        data: SHA-256 of the training data.
        trajectory: Readings along training; empty if the run diverged.
        diverged: Step at which the loss was no longer finite; None if it did not diverge.
        step_seconds: Median CPU seconds of a training step, on one thread; None if no step was timed.
    """

    name: Text
    plan: Sha256
    data: Sha256
    trajectory: tuple[TrainingPoint, ...]
    diverged: Text | None = None
    step_seconds: float | None = None

    def at(self, step: int) -> TrainingPoint | None:
        """Return the reading at a step, if any."""
        return next((point for point in self.trajectory if point.step == step), None)


Run = TypeVar("Run", bound=Planned)
Found = TypeVar("Found", bound=RunResult)


@dataclass(frozen=True)
class RunStore(Generic[Run, Found]):
    """Results of finished runs on this machine, and those kept in the repository.

    Attributes:
        folder: Folder of runs, with a file per result and a folder of its checkpoint.
        kept: File with one line per result, written as each run ends.
        runs: All runs, in the order of the kept lines.
        form: Class of the results.
    """

    folder: Path
    kept: Path
    runs: Sequence[Run]
    form: type[Found]

    def path(self, run: Run) -> Path:
        """Return the file of a run's own result."""
        return self.folder / f"{run.name}.json"

    def read(self, run: Run) -> Found | None:
        """Read the result of a run from its own file, or else from the kept lines; None if there is none of its plan."""
        return self._own(run) or self._kept().get(run)

    def write(self, run: Run, result: Found) -> None:
        """Write the file of a run's own result, and its kept line."""
        atomic_files.replace(self.path(run), result.to_bytes())
        self.keep({run: result})

    def all(self) -> dict[Run, Found]:
        """Read every known result, in the order of the runs."""
        kept = self._kept()
        return {run: result for run in self.runs if (result := self._own(run) or kept.get(run)) is not None}

    def keep(self, results: Mapping[Run, Found]) -> None:
        """Write results among the kept lines, in place of those of the same runs; results of other plans are left out."""

        def merged(lines: bytes) -> bytes:
            found = self._of(lines) | {run: one for run, one in results.items() if _of_plan(run, one) is not None}
            return b"".join(found[run].to_bytes() for run in self.runs if run in found)

        kept_lines.merge(self.kept, merged)

    def _own(self, run: Run) -> Found | None:
        path = self.path(run)
        if not path.exists():
            return None
        return _of_plan(run, load_document(self.form, atomic_files.read(path, limit=MAX_RESULT), where=path, limit=MAX_RESULT))

    def _kept(self) -> dict[Run, Found]:
        return self._of(kept_lines.read(self.kept))

    def _of(self, lines: bytes) -> dict[Run, Found]:
        """Return the results of current plans among kept lines."""
        every = (load_document(self.form, one, where=self.kept, limit=MAX_RESULT) for one in lines.splitlines(keepends=True))
        named = {found.name: found for found in every}
        return {run: found for run in self.runs if (found := _of_plan(run, named.get(run.name))) is not None}


def _of_plan(run: Run, found: Found | None) -> Found | None:
    return found if found is not None and (found.name, found.plan) == (run.name, run.plan_digest) else None
