"""``batteries validate``: run the viability test. Torch is imported only when the command runs."""

from __future__ import annotations

from typing import Annotated

import typer

import registry
from batteries.cell.cell import SUFFIX
from batteries.errors import InputError
from batteries.io import atomic_files
from registry.catalog.attestation import verdict_words
from registry.catalog.reference import is_pattern
from registry.checks.protocol import Control, Profile
from registry.cli.console import NOT_VIABLE, AsJson, Registry, Wide, app, emit, emit_json, say
from registry.cli.options import Page, Seed, Threads, refuse_no_folder, use
from registry.cli.progress import TrialBar
from registry.cli.terminal.choices import choice
from registry.cli.terminal.help import TEST
from registry.reports import summaries
from registry.transfer.search import references_of


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
    seed: Seed = 0,
    attest: Annotated[
        str | None, typer.Option("--attest", metavar="FOLDER", help="Publish the reports to this registry.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Compute kept and shipped parts again.")] = False,
    wide: Wide = False,
    registry_: Registry = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Test the viability of cells, alone and in hosts.

    The checks are of error, geometry, and use in hosts, frozen and trained. The exit code is 7 if a cell is not viable.

    Profiles: quick; standard, with more seeds and longer recovery training. Finished parts are kept, and the same command
    resumes from them.

    Controls, each of which a check must reject: untrained, none, scale, rank-one, doubled-rows, shuffled, scrambled, forgetful,
    memorised, random-encoder, constant-S, nan.
    """
    use(context, threads)
    if control and attest:
        raise InputError("control cannot be attested", code="USAGE", remedy="Leave out --control or --attest.")
    if control and retrain:
        raise InputError("control was not trained", code="USAGE", remedy="Leave out --control or --retrain.")
    if attest:
        registry.open_store(attest)  # refuse an unusable registry before the test
    refuse_no_folder(html)
    reports = []
    targets = [one for target in targets for one in _matches(target, registry_)]
    with TrialBar() as bar:
        for target in targets:
            report = registry.validate(
                target,
                registry=registry_,
                profile=profile,
                control=control,
                retrain=retrain,
                seed=seed,
                fresh=fresh,
                progress=bar.of(target),
            )
            reports.append(report)
            if attest:
                registry.attest(report.attestation, attest)
    found = [report.attestation for report in reports]
    if html:
        shown = {report.attestation.digest: report.reconstructions for report in reports}
        atomic_files.replace(html, registry.page(found, shown).encode())
    if as_json:
        emit_json(
            {"reports": [{"verdict": a.verdict, "failed": list(a.failed), "report": a.model_dump(mode="json")} for a in found]}
        )
    else:
        for attestation in found:
            emit(*summaries.viability(attestation), wide=wide)
    for attestation in found:
        say(f"{attestation.reference}: {verdict_words(attestation.verdict, attestation.failed)}")
    if any(attestation.verdict != "viable" for attestation in found):
        raise typer.Exit(NOT_VIABLE)


def _matches(target: str, registry_: str | None) -> list[str]:
    """Return the references that a pattern matches; a cell file and a reference are themselves."""
    if target.endswith(SUFFIX) or not is_pattern(target):
        return [target]
    return [str(one) for one in references_of([target], registry_)]
