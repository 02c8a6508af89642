"""``batteries ablate``: carry out an ablation program, and read it. Torch is imported only when the command runs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batteries import ablation
from batteries.engine.engine_address import EngineAddress
from batteries.errors import InputError
from batteries.io import atomic_files
from batteries.short_repr import counted
from registry import reports
from registry.answers.ablation import AblateAnswer, AblateReport, FailedRun, ForecastAnswer, ForecastRow
from registry.answers.answer import Fault
from registry.cli.terminal.console import AnsweredError, AsJson, Wide, app, emit, emit_json, emit_row, say
from registry.cli.terminal.help import TEST
from registry.cli.terminal.options import Engine, OtherProcess, Workers
from registry.cli.terminal.progress import TaskBar
from registry.reports.fitted_table import FittedTable

if TYPE_CHECKING:
    from batteries.ablation import AblationRun, Program, Progress

REPORT, PROCESSES = "report", "processes"
PAGE = "index.html"
MIB = 2**20


@app.command(rich_help_panel=TEST, epilog="batteries ablate published --group G --out ablation")
def ablate(
    program: Annotated[
        str, typer.Argument(metavar="[PROGRAM|report]", help="Name of a program, or a file *.toml.")
    ] = "published",
    folder: Annotated[Path | None, typer.Argument(metavar="[FOLDER]", help="Folder to report on.")] = None,
    group: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this group; may be repeated.")] = None,
    band: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this band; may be repeated.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Forecast time and memory, and run nothing.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder of the reports.", show_default="its name")] = None,
    engine: OtherProcess = PROCESSES,
    workers: Workers = None,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Carry out an ablation program, with a report of each run.

    Programs: published (149 runs in 12 groups, and what they leave open), d-ladder (widths of the rows), floors
    (optimisers), readout-rounds (D numbers in place of singular values), or a file. The same command carries out what
    has no report yet; several may share a folder.

    batteries ablate report FOLDER writes its tables and a page.
    """
    if program == REPORT:
        if folder is None or group or band or dry_run or out or engine != PROCESSES or workers:
            raise InputError("unexpected option of a report", code="USAGE", expected="batteries ablate report FOLDER")
        return _report(folder, as_json)
    if folder is not None:
        raise InputError("folder without report", code="USAGE", expected="--out FOLDER", found=folder)
    chosen, text = ablation.read_program(program)
    runs = ablation.runs_of(chosen, tuple(group or ()), tuple(band or ()))
    out = out or Path(chosen.name)
    EngineAddress.parse(engine)
    place = Engine(engine, workers)
    if dry_run:
        return _forecast(chosen, runs, out, place, wide=wide, as_json=as_json)
    if find_spec("tensorboard") is None:
        say("no TensorBoard events: pip install 'svae-batteries[tensorboard]'")
    with TaskBar("ablating", "runs", len(runs), kept="runs") as bar:
        progress = ablation.carry_out(
            chosen,
            text,
            runs,
            out,
            run=place.run,
            shown=lambda progress: bar.moved(progress.done, progress.runs),
        )
    return _carried_out(chosen, out, progress, as_json)


def _carried_out(program: Program, out: Path, progress: Progress, as_json: bool) -> None:
    failed = tuple(FailedRun(run=name, error=Fault.of(error)) for name, error in progress.failed.items())
    if as_json:
        emit_json(AblateAnswer(program=program.name, folder=str(out), runs=progress.runs, done=progress.done, failed=failed))
    else:
        emit_row(program.name, out, f"{progress.done} of {progress.runs} runs")
    for name, error in progress.failed.items():
        say(f"{name}: {error}")
    if progress.failed:
        raise AnsweredError(max(error.exit_code for error in progress.failed.values()))


def _report(folder: Path, as_json: bool) -> None:
    found = ablation.snapshot(folder)
    files = ablation.write_tables(found, folder)
    atomic_files.replace(folder / PAGE, reports.snapshot_page(found).encode())
    names = tuple(str(path) for path in (*files, folder / PAGE))
    if as_json:
        emit_json(AblateReport(program=found.program.name, runs=len(found.runs), reports=len(found.judged), files=names))
    else:
        emit_row(found.program.name, f"{len(found.judged)} of {len(found.runs)} runs", *names)


def _forecast(
    program: Program,
    runs: list[AblationRun],
    out: Path,
    place: Engine,
    *,
    wide: bool,
    as_json: bool,
) -> None:
    left = ablation.without_report(program, runs, out)
    with TaskBar("measuring", "kinds of run", None) as bar:
        found = ablation.forecast(left, run=place.run, workers=place.workers, shown=bar.moved)
    rows, above = [], set[str]()
    for group in program.groups:
        mine = [run for run in runs if run.group == group.id]
        new = {run.identity for run in left if run.group == group.id} - above
        above |= new
        if mine:
            rows.append(
                ForecastRow(
                    group=group.id,
                    title=group.title,
                    runs=len(mine),
                    missing=sum(run.group == group.id for run in left),
                    minutes=sum(found.seconds[identity] for identity in new) / 60,
                )
            )
    answer = ForecastAnswer(
        program=program.name,
        groups=tuple(rows),
        runs=len(runs),
        missing=len(left),
        computations=len(found.seconds),
        minutes=found.wall / 60,
        workers=found.workers,
        memory=found.peak_bytes * found.workers,
    )
    emit_json(answer) if as_json else _emit_forecast(answer, wide)


def _emit_forecast(answer: ForecastAnswer, wide: bool) -> None:
    table = FittedTable("group", "subject", "runs", "missing", "minutes of one worker", optional=("subject",))
    for row in answer.groups:
        table.add_row(row.group, row.title, row.runs, row.missing, f"{row.minutes:.1f}")
    emit(table, wide=wide)
    say(
        f"{answer.missing} of {answer.runs} runs left, in {answer.computations} computations: "
        f"{answer.minutes:.1f} minutes on {counted(answer.workers, 'worker')}, "
        f"{answer.memory / MIB:,.0f} MiB"
    )
