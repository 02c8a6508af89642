"""Bytes that were compared with their digest: whoever reads them need not do so again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from batteries.errors import IntegrityError
from batteries.io import canonical_json, placeholders

Bytes = TypeVar("Bytes", bytes, memoryview)


@dataclass(frozen=True)
class Verified(Generic[Bytes]):
    """Bytes of a known digest, as :func:`verify` makes them.

    Attributes:
        data: The bytes.
        sha256: Their digest.
    """

    data: Bytes
    sha256: str


def verify(data: Bytes, *, sha256: str, size: int, where: object, remedy: str | None = None) -> Verified[Bytes]:
    """Compare bytes with the size and the digest that were promised.

    Args:
        data: The bytes.
        sha256: Promised digest.
        size: Promised number of bytes.
        where: Name of the bytes in a message.
        remedy: Advice where the digest is another.

    Raises:
        IntegrityError: another size (``SIZE_MISMATCH``) or digest (``DIGEST_MISMATCH``).
        FormatError: a stand-in for the file, such as a Git LFS pointer (``LFS_POINTER`` and others).
    """
    if len(data) != size:
        placeholders.refuse_unreadable(data, where)
        raise IntegrityError("another size", code="SIZE_MISMATCH", expected=size, found=len(data), where=where)
    found = canonical_json.sha256(data)
    if found != sha256:
        raise IntegrityError("other bytes", code="DIGEST_MISMATCH", expected=sha256, found=found, where=where, remedy=remedy)
    return Verified(data, found)
