"""Keys: Ed25519 pairs in files of PEM, and their ids.

A key's id is the SHA-256 of its public part in TUF's form, so it names exactly one key, wherever it is read.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from batteries.errors import ConflictError, FormatError, InputError, StoreWarning
from batteries.io import atomic_files
from batteries.io.access import OTHERS_READ, UMASK, Access, permissions_of
from batteries.io.canonical_json import DIGEST
from batteries.io.temporary_files import sweep_once
from registry.trust import library, pem_block

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, Key, SSlibKey

MAX_KEY = 2**14
ED25519 = "ed25519"
PUBLIC = ".pub"  # suffix of the public file beside a private one
PASSPHRASE = "BATTERIES_KEY_PASSPHRASE"
MAX_PASSPHRASE = 1023  # bytes: the libraries take no more
PRIVATE_PEM = re.compile(rb"-----BEGIN (ENCRYPTED )?PRIVATE KEY-----")

Prompt = Callable[[str], str]


def make_key(path: Path, passphrase: str | None = None) -> SSlibKey:
    """Make a key: its private file, which only the owner may read, and its public file beside it.

    Args:
        path: Private file to write; the public one has ``.pub`` after its name.
        passphrase: Passphrase of the private file; None or an empty one for none.

    Raises:
        ConflictError: one of the files exists (``KEY_EXISTS``); neither is then written.
        InputError: no name of a file (``KEY``), a passphrase that is too long (``PASSPHRASE``), or the extra is not installed
            (``EXTRA``).
        StoreError: no space or no permission.
    """
    library.require()
    if not path.name:
        raise InputError("not a file for a key", code="KEY", expected="the name of a new file", found=repr(str(path)))
    sweep_once(path.parent)  # what a killed writer left may hold a private key
    for file in (path, public_file(path)):
        if os.path.lexists(file):
            raise _exists(file, alone=file != path)
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.signer import SSlibKey

    private, pem = Ed25519PrivateKey.generate(), serialization.Encoding.PEM
    locked = serialization.BestAvailableEncryption(_bytes_of(passphrase)) if passphrase else serialization.NoEncryption()
    public = private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    _create(public_file(path), public, private=False)
    try:
        _create(path, private.private_bytes(pem, serialization.PrivateFormat.PKCS8, locked), private=True)
    except BaseException:
        atomic_files.remove(public_file(path))  # it would be taken for that of another private file
        raise
    return SSlibKey.from_crypto(private.public_key())


def public_file(path: Path) -> Path:
    """Return the path of the public file beside a private one."""
    return path.with_name(path.name + PUBLIC)


def is_private(path: Path) -> bool:
    """Return whether a file has a private key, by its first line."""
    return PRIVATE_PEM.search(atomic_files.read(path, limit=MAX_KEY, links=True)) is not None


def read_signer(path: Path, prompt: Prompt) -> CryptoSigner:
    """Read a private file.

    Args:
        path: File of the private key.
        prompt: Function that asks for the passphrase of an encrypted file, unless ``BATTERIES_KEY_PASSPHRASE`` is set.

    Raises:
        FormatError: not a private Ed25519 key in PEM, or one that asks for too much work (``KEY_FORMAT``).
        InputError: wrong passphrase (``PASSPHRASE``), or the extra is not installed (``EXTRA``).
        NotFoundError: no such file.

    Warns:
        StoreWarning: a file that is not encrypted, and that other users can read (``OPEN_KEY``).
    """
    data = atomic_files.read(path, limit=MAX_KEY, links=True)
    block = _block(path, data, pem_block.PRIVATE)
    library.require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    passphrase = _passphrase(path, prompt) if block.startswith(pem_block.LOCKED) else None
    try:
        private = load_pem_private_key(block, passphrase)
    except UnsupportedAlgorithm as error:
        raise _not_a_key(path, "an Ed25519 key") from error
    except (ValueError, TypeError) as error:
        if passphrase is None:
            raise _not_a_key(path, "a private key in PEM") from error
        raise InputError("private key not opened", code="PASSPHRASE", where=path, remedy="Check the passphrase.") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise _not_a_key(path, "an Ed25519 key")
    if passphrase is None:
        _warn_if_open(path)
    return CryptoSigner(private)


def read_public(path: Path) -> SSlibKey:
    """Read a public file.

    Raises:
        FormatError: not a public Ed25519 key in PEM (``KEY_FORMAT``).
        InputError: the extra is not installed (``EXTRA``).
        NotFoundError: no such file.
    """
    block = _block(path, atomic_files.read(path, limit=MAX_KEY, links=True), pem_block.PUBLIC)
    library.require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    try:
        public = load_pem_public_key(block)
    except UnsupportedAlgorithm as error:
        raise _not_a_key(path, "an Ed25519 key") from error
    except ValueError as error:
        raise _not_a_key(path, "a public key in PEM") from error
    if not isinstance(public, Ed25519PublicKey):
        raise _not_a_key(path, "an Ed25519 key")
    return SSlibKey.from_crypto(public)


def key_ids(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the ids of keys, each given by its id or by its public file, sorted.

    Raises:
        InputError: neither an id nor a file (``KEY``).
        BatteriesError: as :func:`read_public`.
    """
    return tuple(sorted({text if DIGEST.fullmatch(text) else _id_in(text) for text in texts}))


def is_genuine(key: Key) -> bool:
    """Return whether a key of a document is an Ed25519 key under its own id.

    A document may list any key under any id, of any scheme, and some schemes ask other programs.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from securesystemslib.signer import SSlibKey

    if not isinstance(key, SSlibKey) or (key.keytype, key.scheme) != (ED25519, ED25519):
        return False
    try:
        return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))) == key
    except ValueError:
        return False


def _warn_if_open(path: Path) -> None:
    """Warn if other users can read a private key."""
    with atomic_files.typed(path):
        permissions = permissions_of(path)
    if permissions & OTHERS_READ:
        what, remedy = "private key that other users can read", "Close it with `chmod 600`; if another may have it, rotate."
        warnings.warn(StoreWarning(what, code="OPEN_KEY", where=path, remedy=remedy), stacklevel=3)


def _id_in(text: str) -> str:
    with atomic_files.typed(Path(text)):
        there = Path(text).is_file()
    if not there:
        raise InputError("not a key", code="KEY", expected="a key id of 64 digits, or a public file", found=repr(text[:80]))
    return read_public(Path(text)).keyid


def _block(path: Path, data: bytes, kind: re.Pattern[bytes]) -> bytes:
    try:
        return pem_block.read(data, kind)
    except ValueError as error:
        raise _not_a_key(path, str(error)) from error


def _create(path: Path, data: bytes, *, private: bool) -> None:
    if not atomic_files.create(path, data, access=Access(path.parent, private=True) if private else UMASK):
        raise _exists(path)


def _exists(path: Path, *, alone: bool = False) -> ConflictError:
    """Return the error of a file that exists, or of a public one without its private one."""
    remedy = "Name another file: a key that signed something is never replaced."
    if alone:
        remedy = "Name another file, or remove this one if a command was killed there: no private file is beside it."
    return ConflictError("file of a key exists", code="KEY_EXISTS", where=path, remedy=remedy)


def _passphrase(path: Path, prompt: Prompt) -> bytes:
    named = os.environ.get(PASSPHRASE)
    return _bytes_of(prompt(f"passphrase of {path}: ") if named is None else named)


def _bytes_of(passphrase: str) -> bytes:
    data = os.fsencode(passphrase)  # the bytes that were given, also where they are no text
    if len(data) > MAX_PASSPHRASE:
        expected = f"at most {MAX_PASSPHRASE} bytes"
        raise InputError("passphrase too long", code="PASSPHRASE", expected=expected, found=f"{len(data)} bytes")
    return data


def _not_a_key(path: Path, expected: str) -> FormatError:
    return FormatError("not a key", code="KEY_FORMAT", expected=expected, where=path)
