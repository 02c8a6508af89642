"""Bytes already compared with their digest, so that readers need not do it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from batteries.errors import IntegrityError
from batteries.io import canonical_json
from batteries.io.texts import placeholders

Bytes = TypeVar("Bytes", bytes, memoryview)


@dataclass(frozen=True)
class Verified(Generic[Bytes]):
    """Bytes with their verified digest, made by :func:`verify`.

    Attributes:
        data: Verified bytes.
        sha256: Digest of the bytes.
    """

    data: Bytes
    sha256: str


def verify(data: Bytes, *, sha256: str, size: int, where: object, remedy: str | None = None) -> Verified[Bytes]:
    """Compare bytes with their recorded size and digest.

    Args:
        data: Bytes to verify.
        sha256: Expected digest.
        size: Expected number of bytes.
        where: Name of the bytes in messages.
        remedy: Advice to the user if the digest differs.

    Raises:
        IntegrityError: different size (``SIZE_MISMATCH``) or digest (``DIGEST_MISMATCH``).
        FormatError: stand-in for the file, such as a Git LFS pointer (``LFS_POINTER`` and others).
    """
    if len(data) != size:
        placeholders.refuse_unreadable(data, where)
        raise IntegrityError("size mismatch", code="SIZE_MISMATCH", expected=size, found=len(data), where=where)
    found = canonical_json.sha256(data)
    if found != sha256:
        raise IntegrityError(
            "digest mismatch", code="DIGEST_MISMATCH", expected=sha256, found=found, where=where, remedy=remedy
        )
    return Verified(data, found)
