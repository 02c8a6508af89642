"""``batteries validate``: run the viability test. Torch is imported only when the command runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

import registry
from batteries.cell.cell import SUFFIX, Cell
from batteries.engine.tasks import Task
from batteries.errors import BatteriesError, InputError
from batteries.io import atomic_files
from batteries.text import unicode
from registry.answers.answer import Fault
from registry.catalog.attestation import verdict_words
from registry.catalog.reference import is_pattern
from registry.checks.protocol import Control, Profile
from registry.cli.terminal.choices import choice
from registry.cli.terminal.console import NOT_VIABLE, AnsweredError, AsJson, Registry, Wide, app, emit, emit_json, say
from registry.cli.terminal.help import TEST
from registry.cli.terminal.options import (
    Engine,
    EngineOption,
    Page,
    Seed,
    Threads,
    Workers,
    engine_of,
    refuse_no_folder,
    use,
)
from registry.cli.terminal.progress import TaskBar, TrialBar
from registry.cli.terminal.signing_options import Sign, refuse_no_attesting, signing_of_reports
from registry.reports import summaries
from registry.transfer.search import references_of

if TYPE_CHECKING:
    from registry.viability.validate import Report

Test = Callable[..., "Report"]


@app.command(rich_help_panel=TEST, epilog="batteries validate low/fresnel-256 --html report.html")
def validate(
    context: typer.Context,
    targets: Annotated[list[str], typer.Argument(metavar="REFERENCE|CELL_FILE...", help="Published cells, or cell files.")],
    profile: Annotated[Profile, choice(Profile, code="PROFILE", help="Numbers of the test, see above.")] = "quick",
    html: Page = None,
    control: Annotated[
        Control | None, choice(Control, code="CONTROL", metavar="CONTROL", help="Test a control in the cell's place.")
    ] = None,
    retrain: Annotated[bool, typer.Option("--retrain", help="Also repeat the first 1000 training steps.")] = False,
    photos: Annotated[list[str] | None, typer.Option(metavar="PLACE", help="Photographs for it: a folder or a glob.")] = None,
    seed: Seed = 0,
    attest: Annotated[
        str | None, typer.Option("--attest", metavar="FOLDER", help="Publish the reports to this registry.")
    ] = None,
    sign: Sign = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Compute kept and shipped parts again.")] = False,
    wide: Wide = False,
    registry_: Registry = None,
    threads: Threads = None,
    engine: EngineOption = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Test the viability of cells, alone and in hosts.

    The checks are of error, geometry, and use in hosts, frozen and trained. The exit code is 7 if a cell is not viable.

    Profiles: quick; standard, with more seeds and longer recovery training. Finished parts are kept, and the same command
    resumes from them. With --engine each cell is a task, and one that cannot be tested leaves the reports of the others.

    Controls, each of which a check must reject: untrained, none, scale, rank-one, doubled-rows, shuffled, scrambled, forgetful,
    memorised, random-encoder, constant-S, nan.
    """
    use(context, threads)
    if control and attest:
        raise InputError("control cannot be attested", code="USAGE", remedy="Leave out --control or --attest.")
    if control and retrain:
        raise InputError("control was not trained", code="USAGE", remedy="Leave out --control or --retrain.")
    if photos and not retrain:
        raise InputError("photographs of a run that is not repeated", code="USAGE", remedy="Give --retrain, too.")
    signing = signing_of_reports(sign, attest)
    refuse_no_folder(html)
    chosen = engine_of(engine, workers, threads)
    targets = [one for target in targets for one in _matches(target, registry_)]
    if attest:
        refuse_no_attesting(attest, signing, _readable(targets, registry_))  # before the test
    test = partial(
        registry.validate,
        registry=registry_,
        profile=profile,
        control=control,
        retrain=retrain,
        photos=tuple(photos or ()),
        seed=seed,
        fresh=fresh,
    )
    reports: list[Report] = []
    failures: dict[str, BatteriesError] = {}
    for target, report in _here(targets, test) if chosen is None else _on_engine(chosen, targets, test, registry_):
        if isinstance(report, BatteriesError):
            failures[target] = report
            continue
        reports.append(report)
        if attest:
            registry.attest(report.attestation, attest, signing=signing)
    found = [report.attestation for report in reports]
    if html and found:
        shown = {report.attestation.digest: report.reconstructions for report in reports}
        atomic_files.replace(html, registry.page(found, shown).encode())
    if as_json:
        rows = [{"verdict": a.verdict, "failed": list(a.failed), "report": a.model_dump(mode="json")} for a in found]
        emit_json({"reports": rows} | _failed(failures, chosen))
    else:
        for attestation in found:
            emit(*summaries.viability(attestation), wide=wide)
    for attestation in found:
        say(f"{attestation.reference}: {verdict_words(attestation.verdict, attestation.failed)}")
    for target, error in failures.items():
        say(f"error: {target}: {error}")
    refused = [NOT_VIABLE for attestation in found if attestation.verdict != "viable"]
    if codes := [*refused, *(error.exit_code for error in failures.values())]:
        raise AnsweredError(max(codes))


def _here(targets: Iterable[str], test: Test) -> Iterator[tuple[str, Report]]:
    """Test cells in this process, one after the other; the first failure ends the command."""
    with TrialBar() as bar:
        for target in targets:
            yield target, test(target, progress=bar.of(target))


def _on_engine(
    chosen: Engine, targets: Sequence[str], test: Test, registry_: str | None
) -> Iterator[tuple[str, Report | BatteriesError]]:
    """Test cells as tasks of an engine, and yield reports and failures in the order of the targets.

    Cells are read here, so that a worker on another machine needs no registry.
    """
    found: dict[int, Report | BatteriesError] = {}
    names = [f"validate-{place}" for place in range(len(targets))]

    def tasks() -> Iterator[Task]:
        for place, target in enumerate(targets):
            try:
                cell = registry.load(target, registry=registry_)
            except BatteriesError as error:
                found[place] = error
                bar.ended()
            else:
                yield Task(names[place], test, (cell,))

    with TaskBar("validating", "cells", len(targets), kept="parts") as bar, chosen.running(tasks()) as outcomes:
        following = 0
        for outcome in outcomes:
            found[names.index(outcome.task.name)] = outcome.error or outcome.value
            bar.ended()
            while following in found:
                yield targets[following], found[following]
                following += 1
        yield from ((targets[place], found[place]) for place in range(following, len(targets)))


def _failed(failures: Mapping[str, BatteriesError], chosen: Engine | None) -> dict[str, Any]:
    """Return the part of the answer about cells that could not be tested, which only an engine leaves behind."""
    rows = [{"target": unicode(target), "error": Fault.of(error).model_dump(mode="json")} for target, error in failures.items()]
    return {} if chosen is None else {"failures": rows}


def _readable(targets: Iterable[str], registry_: str | None) -> Iterator[Cell]:
    """Yield the cells that can be read; for any other the test says why, and with an engine goes on."""
    for target in targets:
        with contextlib.suppress(BatteriesError):
            yield registry.load(target, registry=registry_)


def _matches(target: str, registry_: str | None) -> list[str]:
    """Return the references that a pattern matches; a cell file and a reference are themselves."""
    if target.endswith(SUFFIX) or not is_pattern(target):
        return [target]
    return [str(one) for one in references_of([target], registry_)]
