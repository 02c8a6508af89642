"""Bytes that a writer of a file format hands over: kept until they are taken."""

from __future__ import annotations

import io
from typing import Any


class ByteBuffer(io.RawIOBase):
    """A file that only grows and can be emptied while it is written, so that it is never whole in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the number of bytes written since the beginning."""
        return self._written

    def write(self, data: Any) -> int:
        """Append bytes."""
        part = bytes(data)
        self._parts.append(part)
        self._written += len(part)
        return len(part)

    def take(self) -> bytes:
        """Return what was written since the last call, and forget it."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
