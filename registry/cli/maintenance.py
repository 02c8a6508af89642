"""The commands ``batteries lock``, ``diff``, ``mirror``, ``yank``, ``gc`` and ``fsck``. None needs torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from batteries.errors import BatteriesError, InputError
from registry.answers.maintenance import DiffAnswer, FsckAnswer, LockAnswer
from registry.cli.terminal.completion import References
from registry.cli.terminal.console import AsJson, InMode, Registry, app, emit, emit_json, emit_row, say
from registry.cli.terminal.help import MAINTAIN, SHARE
from registry.cli.terminal.progress import TransferBar
from registry.cli.terminal.signing_options import Sign, signed_words, signing_of
from registry.reports import tables
from registry.stores import settings
from registry.stores.cache import Cache
from registry.stores.cache_cleanup import check as check_cache
from registry.stores.cache_cleanup import collect
from registry.stores.fsck import fsck as check_registry
from registry.transfer.lockfile import Lock
from registry.transfer.lockfile import diff as diff_locks
from registry.transfer.mirror import mirror as mirror_registry
from registry.transfer.remarks import yank as yank_version
from registry.transfer.search import located, named

LOCK_FILE = Path("cells.lock")
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)([kMGT]?)B?")


@app.command(rich_help_panel=MAINTAIN, epilog="batteries lock 'low/johanna-64@^3' --out cells.lock")
def lock(
    references: References,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Lock file to write.")] = LOCK_FILE,
    registry: Registry = None,
    mode: InMode = None,
    as_json: AsJson = False,
) -> None:
    """Write exact versions and digests to a lock file.

    A lock file is read by `pull --locked`.
    """
    checked = settings.mode(mode)
    rows = located(named(references, registry, checked), registry, mode=checked)
    found = Lock.of([one for some in rows for one in some])
    found.write(out)
    if as_json:
        emit_json(LockAnswer.of(found, out))
    else:
        for one in found.everything:
            emit_row(one.reference, f"sha256:{one.blob.sha256}")
    say(f"locked in {out}: {tables.counted(one.path for one in found.everything)}")


@app.command(rich_help_panel=MAINTAIN, epilog="batteries diff old.lock cells.lock")
def diff(
    first: Annotated[Path, typer.Argument(metavar="LOCK1", help="Earlier lock file.")],
    second: Annotated[Path, typer.Argument(metavar="LOCK2", help="Later lock file.")],
    as_json: AsJson = False,
) -> None:
    """List the changes from one lock file to another.

    A change is one line: added, removed or changed, then the path, the versions before, the versions after.
    """
    changes = diff_locks(Lock.read(first), Lock.read(second))
    if as_json:
        emit_json(DiffAnswer.of(changes))
    else:
        for change in changes:
            emit_row(change.kind, change.path, ", ".join(change.before) or "-", ", ".join(change.after) or "-")
    say(f"different: {tables.counted(change.path for change in changes)}" if changes else "no change")


@app.command(rich_help_panel=SHARE, epilog="batteries mirror hf://me/cells ./mirror")
def mirror(
    source: Annotated[str, typer.Argument(metavar="REGISTRY", help="Registry to read.")],
    target: Annotated[str, typer.Argument(metavar="REGISTRY", help="Registry to write.")],
    sign: Sign = None,
    as_json: AsJson = False,
) -> None:
    """Copy a whole registry into another, every byte verified.

    Releases keep the signatures of their publishers. The copy's own index is signed with --sign, or not at all.
    """
    signing = signing_of(sign)
    with TransferBar() as bar:
        found = mirror_registry(source, target, signing=signing, progress=bar.moved)
    if as_json:
        emit_json(found)
    else:
        emit_row(found.source, found.target, f"index {found.number}")
    nothing = "" if found.copied else "no version to copy; "
    counts = f"versions: {found.versions}, copied: {found.copied}; attestations: {found.attestations}"
    say(f"{nothing}{counts}; {signed_words(signing)}")
    if found.kept:
        say(f"verdicts that the copy has otherwise, neither known to be newer: {found.kept} kept")


@app.command(rich_help_panel=SHARE, epilog="batteries yank low/mine@2.0.0 --reason 'wrong data' --registry hf://me/cells")
def yank(
    reference: Annotated[str, typer.Argument(metavar="BAND/NAME@VERSION", help="Exact version to yank.")],
    reason: Annotated[str, typer.Option("--reason", help="Reason not to use the version.")],
    registry: Annotated[str, typer.Option("--registry", metavar="REGISTRY", help="Registry of the version.")],
    sign: Sign = None,
    as_json: AsJson = False,
) -> None:
    """Mark a version as not to be used. It stays available under its exact version; ranges no longer match it."""
    found = yank_version(reference, reason, registry, signing=signing_of(sign))
    if as_json:
        emit_json(found)
    else:
        emit_row(found.reference, reason)
    say(f"yanked, in index {found.number}" if found.new else "already yanked for the same reason")


@app.command(rich_help_panel=MAINTAIN, epilog="batteries gc --max-size 2GB --unused 30")
def gc(
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="SIZE", help="Largest size of the cache, such as 2GB.")
    ] = None,
    unused: Annotated[
        float | None, typer.Option("--unused", metavar="DAYS", min=0, help="Remove files unused for so many days.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Remove cached files that can be fetched again.

    Files used within the last hour stay.
    """
    if max_size is None and unused is None:
        raise InputError("missing criterion", code="USAGE", expected="--max-size, --unused, or both")
    found = collect(Cache(), max_size=None if max_size is None else size_of(max_size), unused_days=unused)
    if as_json:
        emit_json(found)
    else:
        emit_row(f"{found.removed} files removed", f"{found.freed} bytes freed")
    nothing = "" if found.removed else "nothing to remove: "
    say(f"{nothing}the cache holds {found.kept} files, {found.size} bytes")


@app.command(rich_help_panel=MAINTAIN, epilog="batteries fsck --registry ./registry --repair --from hf://me/cells")
def fsck(
    repair: Annotated[bool, typer.Option("--repair", help="Move damaged files aside and restore them.")] = False,
    registry: Annotated[
        str | None, typer.Option("--registry", metavar="FOLDER", help="Check this registry, not the cache.")
    ] = None,
    source: Annotated[str | None, typer.Option("--from", metavar="REGISTRY", help="Registry to restore files from.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check the files of the cache, or a registry, by their digests.

    With --repair, damaged files are moved aside, and those whose bytes another source has are restored.
    """
    if source is not None and (registry is None or not repair):
        raise InputError("--from without a registry to repair", code="USAGE", expected="--from with --registry and --repair")
    if registry is None:
        found = check_cache(Cache(), repair=repair)
        faults = {name: error for name, error in found if error is not None}
        _answer(faults, tuple(faults) if repair else (), (), len(found), as_json)
    else:
        check = check_registry(registry, repair=repair, source=source)
        _answer(check.faults, check.repaired, check.orphans, check.checked, as_json)


def _answer(
    faults: dict[str, BatteriesError], repaired: tuple[str, ...], orphans: tuple[str, ...], checked: int, as_json: bool
) -> None:
    left = {name: error for name, error in faults.items() if name not in repaired}
    if as_json:
        emit_json(FsckAnswer.of(faults, repaired, orphans, checked))
    elif faults or orphans:
        emit(tables.faults(faults, repaired, orphans))
    clean = "" if faults or orphans else "no faults; " if checked else "nothing to check; "
    say(f"{clean}files checked: {checked}, faults: {len(faults)}, repaired: {len(repaired)}, orphans: {len(orphans)}")
    if left:
        raise typer.Exit(max(error.exit_code for error in left.values()))


def size_of(text: str) -> int:
    """Parse a size with a decimal unit into bytes.

    Raises:
        InputError: text that is not a size (``SIZE``).

    >>> size_of("2GB"), size_of("1.5M"), size_of("0")
    (2000000000, 1500000, 0)
    """
    found = SIZE.fullmatch(text)
    if found is None:
        raise InputError("invalid size", code="SIZE", expected="a number and k, M, G or T, such as 2GB", found=repr(text[:40]))
    return int(float(found[1]) * UNITS[found[2]])
