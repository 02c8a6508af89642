"""Report of one run, ``final_report.json``: what was trained and what was measured. Verdicts are drawn from it by readers.

A report holds nothing that differs between two runs of the same computation; times are in ``timing.json`` beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from batteries.cell.manifest import CvFigure, DataSource, DegenerateFigure, Measured, Sha256, TrainingPoint
from batteries.errors import ConflictError, FormatError
from batteries.io import atomic_files
from batteries.io.canonical_json import Document, load_document
from batteries.training import checkpoint
from batteries.training.plan import Plan

if TYPE_CHECKING:
    from batteries.ablation.runs import AblationRun

REPORT, TIMING = "final_report.json", "timing.json"
MAX_REPORT = 2**22


class RunReport(Document):
    """Result of a run.

    Attributes:
        schema_version: Version of this form.
        program: Name of the program.
        group: Id of the group.
        variant: Name of the variant.
        band: Name of the band.
        identity: Digest of plan, data and probe; equal for runs that are one computation.
        command: Command that trains the cell.
        plan: Plan of the run.
        data: Facts about the training data.
        outcome: ``finished``, or ``diverged`` at a loss that was not finite.
        steps: Steps taken.
        trajectory: Readings along the run, on its own probe.
        cv_average: Moving average of single readings of the CV, the published CV-EMA; null if the run made none.
        measured: Figures of the trained cell on its own probe; null if the run diverged.
        untrained: Figures of the cell before its first step: the control of the run.
    """

    SCHEMA_VERSION: ClassVar[str] = "1.0.0"

    schema_version: Literal["1.0.0"] = "1.0.0"
    program: str
    group: str
    variant: str
    band: str
    identity: Sha256
    command: str
    plan: Plan
    data: DataSource
    outcome: Literal["finished", "diverged"]
    steps: int
    trajectory: tuple[TrainingPoint, ...]
    cv_average: float | None
    measured: Measured | None
    untrained: Measured

    @property
    def name(self) -> str:
        """Name of the run: group, variant and band."""
        return f"{self.group}/{self.variant}/{self.band}"

    @property
    def cv(self) -> CvFigure | DegenerateFigure | None:
        """Published CV of the trained cell; None if the run diverged."""
        return None if self.measured is None else self.measured.cv

    @property
    def axial_cv(self) -> CvFigure | DegenerateFigure | None:
        """Axial CV of the trained cell; None if the run diverged."""
        return None if self.measured is None else self.measured.axial_cv


class Timing(Document):
    """Cost of a run where it was carried out.

    Attributes:
        seconds: Time from start to report, of the sitting that finished it.
        step_seconds: Median time of a step; null for a run of one step.
        peak_bytes: Largest resident memory of the worker up to then.
    """

    seconds: float
    step_seconds: float | None
    peak_bytes: int


def path_of(folder: Path, run: str) -> Path:
    """Return the path of a run's report."""
    return folder.joinpath(*run.split("/"), REPORT)


def exists(path: Path) -> bool:
    """Return True if there is a file of that name.

    Raises:
        StoreError: no permission to look.
    """
    with atomic_files.typed(path):
        return path.exists()


def read(path: Path) -> RunReport:
    """Read a report.

    Raises:
        FormatError: not a report, or damaged (``REPORT`` if plan or data are not those of its identity).
    """
    report = load_document(RunReport, atomic_files.read(path, limit=MAX_REPORT), where=path, limit=MAX_REPORT)
    found = checkpoint.identity(report.plan, report.data, report.untrained.probe_digest)
    if found != report.identity:
        raise FormatError(
            "report that was changed",
            code="REPORT",
            expected=f"plan, data and probe of {report.identity}",
            found=found,
            where=path,
            remedy="Remove it to carry out the run afresh.",
        )
    return report


def named(report: RunReport, run: AblationRun) -> RunReport:
    """Return a report under the name of a run of the same computation."""
    names = {"program": run.program, "group": run.group, "variant": run.variant, "band": run.band, "command": run.command}
    return report.model_copy(update=names)


def refuse_other(report: RunReport, identity: str, path: Path) -> None:
    """Refuse the report of another computation under the name of a run.

    Raises:
        ConflictError: report with another plan, other data or another probe (``RUN_CHANGED``).
    """
    if report.identity != identity:
        raise ConflictError(
            "report of another program's run",
            code="RUN_CHANGED",
            expected=identity,
            found=report.identity,
            where=path,
            remedy="Name another folder, or remove this report to carry out the run afresh.",
        )
