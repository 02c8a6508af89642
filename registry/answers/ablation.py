"""Answers of ablate under ``--json``; their schemas are exported to ``docs/schema``."""

from __future__ import annotations

from registry.answers.answer import Answer, Fault


class FailedRun(Answer):
    """A run that ended with an error.

    Attributes:
        run: Name of the run.
        error: Error of the run.
    """

    run: str
    error: Fault


class AblateAnswer(Answer):
    """Outcome of a program, or of a part of it.

    Attributes:
        program: Name of the program.
        folder: Folder of its reports.
        runs: Number of runs asked for.
        done: Number of these with a report.
        failed: Runs that ended with an error.
    """

    program: str
    folder: str
    runs: int
    done: int
    failed: tuple[FailedRun, ...]


class ForecastRow(Answer):
    """Forecast of a group.

    Attributes:
        group: Id of the group.
        title: Subject of the group.
        runs: Number of its runs.
        missing: Number of these without a report.
        minutes: Time of one worker for the computations that no group above needs.
    """

    group: str
    title: str
    runs: int
    missing: int
    minutes: float


class ForecastAnswer(Answer):
    """Forecast of a program.

    Attributes:
        program: Name of the program.
        groups: Groups, in order.
        runs: Number of runs.
        missing: Number of runs without a report.
        computations: Number of computations that these need: runs that differ in name alone are one.
        minutes: Time until the last worker is done.
        workers: Workers at a time.
        memory: Bytes of all workers at a time.
    """

    program: str
    groups: tuple[ForecastRow, ...]
    runs: int
    missing: int
    computations: int
    minutes: float
    workers: int
    memory: int


class AblateReport(Answer):
    """Tables and page of a program.

    Attributes:
        program: Name of the program.
        runs: Number of its runs.
        reports: Number of these with a report.
        files: Files written.
    """

    program: str
    runs: int
    reports: int
    files: tuple[str, ...]
