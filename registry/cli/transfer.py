"""The commands ``batteries pull``, ``publish`` and ``verify``. Torch is needed only to measure a cell again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from batteries.cell.cell import Cell
from batteries.errors import InputError
from registry.answers.transfer import PublishedAll, Pulled, PulledCell, VerifyAnswer
from registry.catalog import store_keys
from registry.catalog.kinds import CELL, KINDS, kind_of_folder
from registry.catalog.release import Pin
from registry.cli.terminal.completion import MaybeReferences
from registry.cli.terminal.console import AsJson, InMode, Registry, app, emit, emit_json, emit_rows, on_terminal, say
from registry.cli.terminal.help import BROWSE, SHARE, TEST
from registry.cli.terminal.options import Threads, use
from registry.cli.terminal.progress import TransferBar, working
from registry.cli.terminal.signing_options import Sign, signed_words, signing_of
from registry.cli.terminal.stopwatch import Stopwatch
from registry.reports import tables
from registry.stores import settings
from registry.stores.cache import Cache
from registry.stores.settings import open_store
from registry.transfer.lockfile import Lock
from registry.transfer.publish import publish_all
from registry.transfer.pull import fetch
from registry.transfer.pull_packed import PulledFile, fetch_packed
from registry.transfer.search import named
from registry.transfer.verify import Finding, verify_store
from registry.transfer.verify import verify as verify_references
from registry.transfer.wanted import Wanted, wanted_of, wanted_of_locked, warn_of_yanked


@app.command(rich_help_panel=BROWSE, epilog="batteries pull low/fresnel-256 --out cells")
def pull(
    references: MaybeReferences = None,
    locked: Annotated[
        Path | None, typer.Option("--locked", metavar="FILE", help="Pull what this lock file lists, by digest.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Also write FOLDER/band/name.safetensors.")
    ] = None,
    registry: Registry = None,
    mode: InMode = None,
    as_json: AsJson = False,
) -> None:
    """Fetch cells, models and maps, and verify every byte.

    The answer is one line for each: its reference and the path of its file.
    """
    if bool(references) == (locked is not None):
        raise InputError("missing or conflicting arguments", code="USAGE", expected="references, or --locked FILE")
    with TransferBar() as bar:
        checked = settings.mode(mode)
        if locked is None:
            wanted = wanted_of(named(references or (), registry, checked), registry, checked)
        else:
            lock = Lock.read(locked)
            wanted = wanted_of_locked(lock.everything, registry, checked, indexes=lock.indexes)
        fetched = _fetch(wanted, bar)
    names = [one.manifest.path for one in fetched]
    _refuse_clash(names if out else [])
    cache = Cache()
    rows = [PulledCell.of(one, one.write((out / one.manifest.path).parent) if out else _file_of(one, cache)) for one in fetched]
    if as_json:
        emit_json(Pulled(**_by_table(rows)))
    else:
        emit_rows((row.reference, row.path) for row in rows)
    say(f"fetched and verified: {tables.counted(names)}")


@app.command(rich_help_panel=SHARE, epilog="batteries publish low/mine.safetensors --to ./registry")
def publish(
    context: typer.Context,
    cell_files: Annotated[
        list[Path],
        typer.Argument(metavar="CELL_FILE...", help="NAME.safetensors, with NAME.json beside it."),
    ],
    to: Annotated[str, typer.Option("--to", metavar="REGISTRY", help="A folder, or hf://owner/repo.")],
    sign: Sign = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Publish cells, models or maps to a registry. Each cell is first measured again and compared to its manifest.

    Several files are one release: all of them are listed at once, or none after an error. The first key that signs for a
    registry is its key from then on, and every later change must be signed (`batteries key --help`).
    """
    use(context, threads)
    signing = signing_of(sign)
    clock = Stopwatch()
    with working(f"publishing {cell_files[0] if len(cell_files) == 1 else f'{len(cell_files)} files'}"):
        published = publish_all(cell_files, to, signing=signing, progress=clock.begin)
    if as_json:
        emit_json(published[0] if len(cell_files) == 1 else PublishedAll(artifacts=tuple(published)))
    else:
        emit_rows((one.reference, f"sha256:{one.release.blob.sha256}") for one in published)
    new = sum(one.new for one in published)
    many = "" if len(published) == 1 else f"{new} of {len(published)} "
    done = f"{many}published, in index {published[0].number}" if new else "already published with the same bytes"
    say(f"{done}, {signed_words(signing)} ({clock})")


@app.command(rich_help_panel=TEST, epilog="batteries verify --all")
def verify(
    context: typer.Context,
    references: MaybeReferences = None,
    every: Annotated[bool, typer.Option("--all", help="Verify the whole registry.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Also measure each cell again: 2 to 6 s each.")] = False,
    signed_by: Annotated[
        list[str] | None, typer.Option("--signed-by", metavar="KEYID|FILE", help="Signed by this key; may be repeated.")
    ] = None,
    registry: Registry = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Check what is published: index, files, verdicts, signatures.

    With --signed-by, one of the keys must have signed each release, or the index that lists it; with --all the index as well.
    """
    if bool(references) == every:
        raise InputError("missing or conflicting arguments", code="USAGE", expected="references, or --all")
    if replay:
        use(context, threads)
    with working("verifying"):
        if references:
            found = verify_references(*references, registry=registry, replay=replay, signed_by=signed_by or ())
        else:
            found = verify_store(open_store(registry), replay=replay, signed_by=signed_by or ())
    _answer(found, as_json)


def _fetch(wanted: Sequence[Wanted], bar: TransferBar) -> list[Cell | PulledFile]:
    """Fetch cells, and artifacts of other kinds as files, so that torch is not needed."""
    cells = fetch([one for one in wanted if one.reference.kind is CELL], progress=bar.moved)
    packed = fetch_packed([one for one in wanted if one.reference.kind is not CELL], progress=bar.moved)
    warn_of_yanked(wanted, stacklevel=1)
    return [*cells, *packed]


def _by_table(rows: Sequence[PulledCell]) -> dict[str, Any]:
    """Group rows by kind."""
    kinds = [kind_of_folder(row.reference.partition("/")[0]) for row in rows]
    return {kind.plural: tuple(row for row, own in zip(rows, kinds, strict=True) if own is kind) for kind in KINDS.values()}


def _answer(findings: list[Finding], as_json: bool) -> None:
    faults = [finding.error for finding in findings if finding.error is not None]
    if as_json:
        emit_json(VerifyAnswer.of(findings))
    elif findings and on_terminal():
        emit(tables.findings(findings))
    else:
        emit_rows(map(tables.finding_row, findings))
    for fault in faults:
        say(f"error: {fault}")
    nothing = "" if findings else "nothing to check; "
    say(f"{nothing}objects checked: {len(findings)}, faults: {len(faults)}")
    if faults:
        raise typer.Exit(max(fault.exit_code for fault in faults))


def _refuse_clash(paths: list[str]) -> None:
    """Refuse two versions of one name, which would be one file."""
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise InputError(
            "output file clash", code="OUT_CLASH", found=", ".join(twice), remedy="Pull the versions into different folders."
        )


def _file_of(cell: Cell | PulledFile, cache: Cache) -> Path:
    """Return the path of the file of a pulled artifact."""
    if isinstance(cell, PulledFile):
        return cell.path
    assert cell.origin is not None, "cell was not pulled"
    source = cell.origin.source
    store = None if settings.is_remote(source) else settings.open_store(source)
    return cache.file(store, store_keys.blob(cell.digest), Pin(sha256=cell.digest, size=cell.manifest.file.size))
