"""Keys: the names of bytes in a store. All stores share one grammar, so that no key points outside its folder.

    <band>/<name>/<version>.json                    manifest of a cell
    <kind>/<name>/<version>.json                    manifest of another kind
    blobs/<sha256>                                  file of any kind
    attestations/<cell sha256>/<sha256>.json        attestation
    signatures/<sha256>.json                        signature of the index, or of the manifest, with that digest
    trust/<number>.root.json                        keys that may sign, 1, 2, and so on

The index has no key, because it changes and the bytes under a key never do.
"""

from __future__ import annotations

import re

from batteries.errors import InputError
from batteries.io.canonical_json import DIGEST, sha256
from registry.catalog import kinds
from registry.catalog.kinds import kind_of_path
from registry.catalog.reference import is_version

BLOBS = "blobs"
ATTESTATIONS = "attestations"
SIGNATURES = "signatures"
TRUST = "trust"
FOLDERS = (*kinds.FOLDERS, BLOBS, ATTESTATIONS, SIGNATURES, TRUST)
DEPTH = 1  # largest number of folders between one of these and a file
JSON = ".json"
ROOT = re.compile(r"([1-9][0-9]{0,5})\.root\.json")


def manifest(path: str, version: str) -> str:
    """Return the key of the manifest of ``band/name``, ``model/name`` and so on, at a version.

    >>> manifest("low/fresnel-256", "1.0.0")
    'low/fresnel-256/1.0.0.json'
    """
    return check(f"{path}/{version}{JSON}")


def blob(digest: str) -> str:
    """Return the key of the file with a digest."""
    return check(f"{BLOBS}/{digest}")


def attestation(cell: str, digest: str) -> str:
    """Return the key of an attestation about a cell, from their digests."""
    return check(f"{ATTESTATIONS}/{cell}/{digest}{JSON}")


def signature(digest: str) -> str:
    """Return the key of the signature of an index, or of a manifest, from its digest."""
    return check(f"{SIGNATURES}/{digest}{JSON}")


def root(number: int) -> str:
    """Return the key of the document of keys with a number.

    >>> root(1)
    'trust/1.root.json'
    """
    return check(f"{TRUST}/{number}.root{JSON}")


def is_damaged(key: str, data: bytes | memoryview) -> bool:
    """Tell whether bytes are not those of their key, if it ends in their digest: that of a file, or of an attestation.

    >>> is_damaged(blob("0" * 64), b"x"), is_damaged(manifest("low/a", "1.0.0"), b"x"), is_damaged(signature("0" * 64), b"x")
    (True, False, False)
    """
    if not key.startswith((f"{BLOBS}/", f"{ATTESTATIONS}/")):
        return False
    digest = key.rpartition("/")[2].removesuffix(JSON)
    return DIGEST.fullmatch(digest) is not None and sha256(data) != digest


def check(key: str) -> str:
    """Return a key if it is valid.

    Raises:
        InputError: invalid key (``BAD_KEY``).
    """
    if not is_key(key):
        expected = "<band or kind>/<name>/<version>.json, blobs/<sha256>, attestations/<sha256>/<sha256>.json and so on"
        raise InputError("invalid store key", code="BAD_KEY", expected=expected, found=repr(key[:200]))
    return key


def is_key(text: str) -> bool:
    """Return whether a text follows the grammar above.

    >>> is_key("low/fresnel-256/1.0.0.json"), is_key("low/../1.0.0.json"), is_key("index.json")
    (True, False, False)
    """
    match text.split("/"):
        case ["blobs", digest]:
            return _is_digest(digest)
        case ["signatures", file]:
            return file.endswith(JSON) and _is_digest(file.removesuffix(JSON))
        case ["trust", file]:
            return ROOT.fullmatch(file) is not None
        case ["attestations", cell, file]:
            return _is_digest(cell) and file.endswith(JSON) and _is_digest(file.removesuffix(JSON))
        case [band, name, file]:
            path = f"{band}/{name}"
            return kind_of_path(path) is not None and file.endswith(JSON) and is_version(file.removesuffix(JSON))
    return False


def _is_digest(text: str) -> bool:
    return DIGEST.fullmatch(text) is not None
