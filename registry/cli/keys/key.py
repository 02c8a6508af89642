"""The commands ``batteries key new``, ``show``, ``rotate`` and ``refresh``. None needs torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from batteries.errors import InputError
from batteries.io import atomic_files
from batteries.text import unicode
from registry.answers.trust import KeyAnswer, KeysAnswer
from registry.cli.terminal.console import AsJson, app, emit_json, emit_row, say
from registry.cli.terminal.help import MAINTAIN, App, Group
from registry.cli.terminal.signing_options import SignNow, ask_passphrase, read_passphrase, signing_of
from registry.stores.settings import config_file, open_store
from registry.stores.signed.changes import chain_of
from registry.stores.signed.rotation import refresh, rotate
from registry.stores.snapshot import Snapshot
from registry.stores.store import Store, read_index_of
from registry.trust import keys
from registry.trust.signature import Signature
from registry.trust.signed_documents import DAYS
from registry.trust.signing import MAX_DAYS, Signing

EXAMPLE = "batteries key new ~/batteries-key.pem"
KEY_FILE = Path("batteries-key.pem")
Target = Annotated[str, typer.Argument(metavar="REGISTRY", help="A folder, or hf://owner/repo.")]
Days = Annotated[float, typer.Option("--days", metavar="N", help="Days for which the signature is valid.", max=MAX_DAYS)]

key = App(
    name="key",
    cls=Group,
    help="Make keys; sign registries, and change the keys that may.",
    epilog=EXAMPLE,
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(key, rich_help_panel=MAINTAIN)


@key.command("new", rich_help_panel=MAINTAIN, epilog=EXAMPLE)
def new(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="Private file; FILE.pub is the public one.")] = KEY_FILE,
    passphrase: Annotated[bool, typer.Option("--passphrase", help="Encrypt the private file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key: a private file, which signs, and a public one.

    The private file is readable by its owner alone and is never printed: keep it outside of repositories, and a copy offline.
    With --passphrase it is encrypted; the passphrase is asked for, or taken from BATTERIES_KEY_PASSPHRASE.
    """
    made = keys.make_key(file, _new_passphrase() if passphrase else None)
    public = keys.public_file(file)
    if as_json:
        emit_json(KeyAnswer(key=made.keyid, private=unicode(file), public=unicode(public)))
    else:
        emit_row(made.keyid, public)
    say(f"private key: {file} (keep it secret); users pin the id in the table [trusted] of {config_file().name}")


@key.command("show", rich_help_panel=MAINTAIN, epilog="batteries key show ./registry")
def show(
    target: Annotated[str, typer.Argument(metavar="FILE|REGISTRY", help="Public or private file, or a registry.")],
    as_json: AsJson = False,
) -> None:
    """Show the id of a key, or the keys that may sign a registry."""
    with atomic_files.typed(Path(target)):
        is_file = Path(target).is_file()
    if not is_file:
        store = open_store(target)
        _answer(store, Snapshot.take(store).signature, as_json)
        return
    private = keys.is_private(Path(target))
    keyid = keys.read_signer(Path(target), ask_passphrase).public_key.keyid if private else keys.read_public(Path(target)).keyid
    if as_json:
        names = {"private": unicode(target) if private else None, "public": None if private else unicode(target)}
        emit_json(KeyAnswer(key=keyid, **names))
    else:
        emit_row(keyid)


@key.command(
    "rotate",
    rich_help_panel=MAINTAIN,
    epilog="batteries key rotate ./registry --add new.pem.pub --remove 3f1c... \\\n  --sign old.pem --sign new.pem",
)
def rotate_keys(
    registry: Target,
    sign: SignNow,
    add: Annotated[list[Path] | None, typer.Option("--add", metavar="FILE.pub", help="Key that may sign from now on.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="KEYID|FILE", help="Key that may not sign any more.")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option("--threshold", metavar="N", min=1, help="Number of keys that must sign.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change the keys that may sign a registry: add new ones, revoke old ones.

    Enough of the old keys must sign, and enough of those that may sign from now on. Readers who trust an old key follow.
    """
    store = open_store(registry, writable=True)
    added = [keys.read_public(path) for path in add or ()]
    rotate(store, _signing(sign), add=added, remove=keys.key_ids(remove or ()), threshold=threshold)
    _answer(store, Snapshot.take(store).signature, as_json)


@key.command("refresh", rich_help_panel=MAINTAIN, epilog="batteries key refresh ./registry --sign ~/batteries-key.pem")
def refresh_signature(
    registry: Target,
    sign: SignNow,
    days: Days = DAYS,
    releases: Annotated[bool, typer.Option("--releases", help="Sign also releases without a signature.")] = False,
    as_json: AsJson = False,
) -> None:
    """Sign the index of a registry as it is, for the first time or again.

    What it lists is signed unseen: check it first, with `batteries verify --all`. A signature has to be made again before it
    expires, and after the index was changed without a key.
    """
    store = open_store(registry, writable=True)
    refresh(store, _signing(sign, days), releases=releases)
    _answer(store, Snapshot.take(store).signature, as_json)


def _signing(sign: list[Path], days: float = DAYS) -> Signing:
    signing = signing_of(sign, days)
    assert signing is not None, "the option is required"
    return signing


def _answer(store: Store, signature: Signature, as_json: bool) -> None:
    chain = chain_of(store)
    role = None if chain is None else chain.latest.roles["targets"]
    answer = KeysAnswer(
        registry=unicode(store.url),
        number=read_index_of(store)[0].number,
        signature=signature,
        root=0 if chain is None else chain.number,
        keys=() if chain is None else chain.keys,
        threshold=0 if role is None else role.threshold,
        revoked=() if chain is None else tuple(sorted(chain.revoked)),
    )
    if as_json:
        emit_json(answer)
    else:
        for keyid in answer.keys:
            emit_row("in force", keyid)
        for keyid in answer.revoked:
            emit_row("revoked", keyid)
    until = f", valid until {signature.expires}" if signature.expires else ""
    needed = f"; {answer.threshold} of {len(answer.keys)} keys must sign" if answer.keys else ""
    say(f"index {answer.number} of {store.url}: {signature.words}{until}{needed}")


def _new_passphrase() -> str:
    """Ask twice for the passphrase of a new key, unless the environment has it.

    Raises:
        InputError: empty, or two different ones (``PASSPHRASE``).
    """
    named = os.environ.get(keys.PASSPHRASE)
    if named is None:
        named = ask_passphrase("passphrase of the new key: ")
        if read_passphrase("the same again: ") != named:
            raise InputError("two different passphrases", code="PASSPHRASE", remedy="Run the command again.")
    if not named:
        raise InputError(
            "empty passphrase", code="PASSPHRASE", remedy="Leave out --passphrase for a file that is not encrypted."
        )
    return named
