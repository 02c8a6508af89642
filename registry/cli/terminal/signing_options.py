"""Options of commands that sign what they publish: keys, passphrases, and whether a registry takes reports."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

import registry
from batteries.cell.cell import Cell
from batteries.errors import InputError
from registry.stores.signed.changes import refuse_unsigned_change
from registry.stores.store import no_index
from registry.transfer.remarks import refuse_unknown_cell
from registry.trust.keys import PASSPHRASE
from registry.trust.signature import short_id
from registry.trust.signed_documents import DAYS
from registry.trust.signing import Signing

Sign = Annotated[list[Path] | None, typer.Option("--sign", metavar="KEY", help="Sign with this private key; may be repeated.")]
SignNow = Annotated[list[Path], typer.Option("--sign", metavar="KEY", help="Sign with this private key; may be repeated.")]


def signing_of(sign: Sequence[Path] | None, days: float = DAYS) -> Signing | None:
    """Read the private keys that a change is signed with; None without any.

    Raises:
        BatteriesError: as :meth:`Signing.read`.
    """
    return Signing.read(*sign, days=days, prompt=ask_passphrase) if sign else None


def signing_of_reports(sign: Sequence[Path] | None, attest: str | None) -> Signing | None:
    """Read the private keys that published reports are signed with; None without any.

    Raises:
        InputError: keys, and no registry to publish to (``USAGE``).
        BatteriesError: as :func:`signing_of`.
    """
    signing = signing_of(sign)
    if signing and not attest:
        raise InputError("nothing to sign", code="USAGE", remedy="Give --attest, or leave out --sign.")
    return signing


def refuse_no_attesting(attest: str, signing: Signing | None, cells: Iterable[Cell]) -> None:
    """Raise if reports of cells cannot be published to a registry: missing, read-only, signed by other keys, or without a cell.

    Raises:
        NotFoundError: no such registry (``NO_REGISTRY``), no index (``NO_INDEX``), or none of those cells.
        IntegrityError: other weights in the registry under the name of a cell (``WRONG_CELL``).
        BatteriesError: as :func:`registry.stores.signed.changes.refuse_unsigned_change`.
    """
    registry.open_store(attest)  # opened for writing, a folder need not exist
    store = registry.open_store(attest, writable=True)
    present = refuse_unsigned_change(store, signing)
    if present.digest is None:
        raise no_index(store.url)
    for cell in cells:
        refuse_unknown_cell(present.index, f"{cell.name}@{cell.version}", cell.digest, where=store.url)


def signed_words(signing: Signing | None) -> str:
    """Return by which keys a change was signed, in words."""
    return "not signed" if signing is None else f"signed by {', '.join(map(short_id, signing.ids))}"


def ask_passphrase(words: str) -> str:
    """Ask for a passphrase on the terminal.

    Raises:
        InputError: no terminal, the end of the input, or no text (``PASSPHRASE``).
    """
    if sys.stdin is None or not sys.stdin.isatty():
        remedy = f"Set {PASSPHRASE}, or run the command in a terminal."
        raise InputError(f"{words.rstrip(': ')} needed", code="PASSPHRASE", found="no terminal", remedy=remedy)
    return read_passphrase(words)


def read_passphrase(words: str) -> str:
    """Read a passphrase from the terminal.

    Raises:
        InputError: the end of the input, or bytes that are no text (``PASSPHRASE``).
    """
    try:
        return getpass.getpass(words)
    except (EOFError, UnicodeDecodeError) as error:
        found = "the end of the input" if isinstance(error, EOFError) else "bytes that are no text"
        remedy = f"Set {PASSPHRASE}: it may have any bytes."
        raise InputError("no passphrase", code="PASSPHRASE", found=found, remedy=remedy) from None
