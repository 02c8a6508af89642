"""``batteries validate``: run the viability test. Torch is imported only when the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import registry
from batteries.errors import InputError
from batteries.io import atomic_files
from registry.catalog.attestation import verdict_words
from registry.cli.console import NOT_VIABLE, AsJson, Registry, app, emit, emit_json, say
from registry.cli.options import MAX_SEED, Threads, refuse_no_folder, use
from registry.cli.progress import TrialBar
from registry.reports import summaries


@app.command()
def validate(
    context: typer.Context,
    targets: Annotated[list[str], typer.Argument(metavar="REFERENCE|CELL_FILE...", help="Published cells, or cell files.")],
    profile: Annotated[str, typer.Option(help="quick, or standard: more seeds and longer recovery training.")] = "quick",
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the reports as one page of HTML.")] = None,
    control: Annotated[
        str | None, typer.Option(help="Test a negative control of the cell's spec in its place, such as untrained or rank-one.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of everything random.")] = 0,
    attest: Annotated[
        str | None, typer.Option("--attest", metavar="FOLDER", help="Publish the reports to this registry as attestations.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Make kept and shipped results again.")] = False,
    registry_: Registry = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Test the viability of cells: error, geometry, and use in hosts, frozen and trained. Exit code 7 if one is not viable."""
    use(context, threads)
    if control and attest:
        raise InputError("control cannot be attested", code="USAGE", remedy="Leave out --control or --attest.")
    if attest:
        registry.open_store(attest)  # refuse an unusable registry before the test
    refuse_no_folder(html)
    reports = []
    with TrialBar() as bar:
        for target in targets:
            report = registry.validate(
                target,
                registry=registry_,
                profile=profile,  # type: ignore[arg-type]
                control=control,  # type: ignore[arg-type]
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
            emit(*summaries.viability(attestation))
    for attestation in found:
        say(f"{attestation.reference}: {verdict_words(attestation.verdict, attestation.failed)}")
    if any(attestation.verdict != "viable" for attestation in found):
        raise typer.Exit(NOT_VIABLE)
