"""Signed documents: TUF metadata, written by python-tuf and read strictly, since they come from any hand.

Texts are bounded in size, depth and values before the library parses them, and only its own form is accepted: the same document
always has the same bytes, and nothing in it is unsigned but the signatures.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from batteries.errors import FormatError, PolicyError
from batteries.io.canonical_json import DIGEST, load
from registry.trust import keys, library

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, Key, Signature
    from tuf.api.metadata import Metadata, Role

MAX_SIGNED = 2**16  # bytes
MAX_KEYS = 16  # that may sign for one role: checking the signatures of all documents of keys takes half a second
MAX_VERSION = 2**53
ED25519_SIGNATURE = re.compile(r"[0-9a-f]{128}")
TIME = "%Y-%m-%dT%H:%M:%SZ"
DAYS = 365  # that a signature of an index is valid, unless another number is given
LONG_DAYS = 3653  # that a document of keys, and the signature of a release, is valid

Kind = Literal["root", "targets"]


def read(data: bytes, kind: Kind, *, where: object) -> Metadata[Any]:
    """Read a signed document, whose signatures are not checked here.

    Args:
        data: Bytes of the document.
        kind: Kind of document.
        where: Name of the document in messages.

    Raises:
        FormatError: too large or too deep, not JSON, or not a document of that kind in the form that python-tuf writes
            (``SIGNATURE_FORMAT``).
        InputError: the extra is not installed (``EXTRA``).
    """
    load(data, where=where, limit=MAX_SIGNED)
    library.require()
    from tuf.api.metadata import Metadata
    from tuf.api.serialization import DeserializationError, SerializationError

    try:
        found = Metadata[Any].from_bytes(data)
        same = found.to_bytes() == data and bool(found.signed_bytes)
    except (DeserializationError, SerializationError) as error:
        raise _invalid(where, error.__cause__ or error) from error
    version = found.signed.version
    if found.signed.type != kind:
        raise _invalid(where, f"a document of kind {found.signed.type}")
    if not same or found.unrecognized_fields or type(version) is not int or version > MAX_VERSION:
        raise _invalid(where, "another form")
    if not all(map(_is_plain, found.signatures.values())):
        raise _invalid(where, "a signature in another form")
    return found


def write(document: Metadata[Any], signers: Iterable[CryptoSigner]) -> bytes:
    """Sign a document with every signer, and return its bytes."""
    for signer in sorted(signers, key=lambda signer: signer.public_key.keyid):
        document.sign(signer, append=True)
    return document.to_bytes()


def refuse_many(ids: Collection[str]) -> None:
    """Raise if a document to be signed has more keys than its readers take.

    Raises:
        PolicyError: too many keys (``TOO_MANY_KEYS``).
    """
    if len(ids) > MAX_KEYS:
        raise PolicyError("too many keys", code="TOO_MANY_KEYS", expected=f"at most {MAX_KEYS}", found=len(ids))


def refuse_bad_role(role: Role, known: dict[str, Key], where: object) -> None:
    """Raise unless a role can be met: by a few keys that are listed, each an Ed25519 key under its own id.

    Raises:
        FormatError: invalid role or key (``SIGNATURE_FORMAT``).
    """
    ids = role.keyids
    if len(ids) > MAX_KEYS:
        raise _invalid(where, f"{len(ids)} keys for one role, more than {MAX_KEYS}")
    if not (isinstance(ids, list) and type(role.threshold) is int and 1 <= role.threshold <= len(ids)):
        raise _invalid(where, "a threshold that its keys cannot meet")
    for keyid in ids:
        if not isinstance(keyid, str) or keyid not in known or not keys.is_genuine(known[keyid]):
            raise _invalid(where, f"key {str(keyid)[:80]} is not an Ed25519 key under its own id")


def now() -> datetime:
    """Return the present time, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def in_days(days: float) -> datetime:
    """Return the time so many days from now."""
    return now() + timedelta(days=days)


def time_text(time: datetime) -> str:
    """Return a time as documents have it.

    >>> time_text(datetime(2027, 1, 2, tzinfo=UTC))
    '2027-01-02T00:00:00Z'
    """
    return time.strftime(TIME)


def time_of(text: str) -> datetime:
    """Return the time that a document states."""
    return datetime.strptime(text, TIME).replace(tzinfo=UTC)


def is_time(text: str) -> bool:
    """Return whether a text is a time as documents have it.

    >>> is_time("2027-01-02T00:00:00Z"), is_time("tomorrow")
    (True, False)
    """
    try:
        return time_text(time_of(text)) == text
    except ValueError:
        return False


def _is_plain(signature: Signature) -> bool:
    """Return whether a signature is an id and an Ed25519 signature in digits, and nothing else."""
    texts = isinstance(signature.keyid, str) and isinstance(signature.signature, str)
    return (
        texts
        and not signature.unrecognized_fields
        and bool(DIGEST.fullmatch(signature.keyid) and ED25519_SIGNATURE.fullmatch(signature.signature))
    )


def _invalid(where: object, found: object) -> FormatError:
    remedy = "If the registry is yours, sign it again: `batteries key refresh`."
    return FormatError("invalid signed document", code="SIGNATURE_FORMAT", found=found, where=where, remedy=remedy)
