"""The PEM block of a key, bounded before a library reads it.

A library checks an RSA key of a few kilobytes for ten seconds, and tries a passphrase for as long, and in as much memory, as
the file asks for. An Ed25519 key has a few hundred bytes.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator

MAX_BYTES = 2**10  # of a key: one of 64 bytes, encrypted, with the names of the algorithms
MAX_ROUNDS = 2**20  # of PBKDF2, half a second; other programs write 2,048 to 600,000
MAX_SCRYPT = 2**19  # blocks of 128 bytes times lanes: 64 MiB, a fifth of a second; other programs write 2**17
MAX_DEPTH = 8

PRIVATE = re.compile(rb"-----BEGIN (ENCRYPTED )?PRIVATE KEY-----([^-]*+)-----END (?:ENCRYPTED )?PRIVATE KEY-----")
PUBLIC = re.compile(rb"-----BEGIN (PUBLIC) KEY-----([^-]*+)-----END PUBLIC KEY-----")
LOCKED = b"-----BEGIN ENCRYPTED "
SCRYPT = bytes.fromhex("06092b06010401da47040b")  # its object identifier
INTEGER, SEQUENCE = 0x02, 0x30


def read(data: bytes, kind: re.Pattern[bytes]) -> bytes:
    """Return the first PEM block of a kind, which is all that a library should be given.

    Args:
        data: Bytes of a file.
        kind: Pattern of the block: ``PRIVATE`` or ``PUBLIC``.

    Raises:
        ValueError: no such block, or one that no Ed25519 key has, in words that go on after *expected*.
    """
    found, words = kind.search(data), f"a {'public' if kind is PUBLIC else 'private'} key in PEM"
    if found is None:
        raise ValueError(words)
    try:
        key = base64.b64decode(b"".join(found[2].split()), validate=True)
    except ValueError as error:
        raise ValueError(words) from error
    if len(key) > MAX_BYTES:
        raise ValueError("an Ed25519 key, of a few hundred bytes")
    if found[1] == b"ENCRYPTED ":
        _refuse_costly(key)
    return found[0] + b"\n"


def _refuse_costly(key: bytes) -> None:
    """Refuse an encrypted key whose passphrase takes too long, or too much memory, to try."""
    numbers = list(_integers(key))
    if SCRYPT in key:
        if math.prod(numbers[:3]) > MAX_SCRYPT:
            raise ValueError(f"scrypt of at most {MAX_SCRYPT * 128} bytes")
    elif max(numbers, default=0) > MAX_ROUNDS:
        raise ValueError(f"at most {MAX_ROUNDS} rounds of its passphrase")


def _integers(der: bytes, depth: int = 0) -> Iterator[int]:
    """Yield the integers in the sequences of DER, in order."""
    if depth > MAX_DEPTH:
        raise ValueError("a private key in PEM")
    while der:
        size, start = int.from_bytes(der[1:2], "big"), 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(der[2:start], "big")
        if start + size > len(der):
            raise ValueError("a private key in PEM")
        content = der[start : start + size]
        if der[0] == SEQUENCE:
            yield from _integers(content, depth + 1)
        elif der[0] == INTEGER:
            yield int.from_bytes(content, "big")
        der = der[start + size :]
