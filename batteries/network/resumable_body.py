"""Body of a response received over several attempts, with range requests for the missing part."""

from __future__ import annotations

import re

import httpx2

from batteries.errors import TransportError
from batteries.network.connections import ResponseHead, plain
from batteries.network.limits import too_large

STRONG_ETAG = re.compile(r'"[!#-~]{0,200}"')
CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15}|\*)")


class ResumableBody:
    """Part of a body received so far, over all attempts."""

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self.most = 0  # largest size reached, which measures progress: a repeated download is none
        self.status = 0
        self.headers = httpx2.Headers()
        self._limit = limit
        self._total: int | None = None
        self._etag: str | None = None
        self._honest = True  # False once the server sent another part than requested

    def ask_for(self) -> dict[str, str]:
        """Return the headers that request the missing part; empty to request the whole."""
        if not self.data or not self._honest:
            self.data.clear()
            return {}
        part = {"Range": f"bytes={len(self.data)}-"}
        return part if self._etag is None else {**part, "If-Range": self._etag}

    def start(self, head: ResponseHead, where: str) -> None:
        """Process the head of a complete response."""
        self.data.clear()
        self.status, self.headers = head.status, head.headers
        length = head.headers.get("content-length")
        self._total = None if length is None or head.status != 200 else int(length)
        self._honest = self._honest and head.status == 200
        etag = head.headers.get("etag", "")
        self._etag = etag if STRONG_ETAG.fullmatch(etag) else None
        if head.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/html":
            remedy = "Check the address, and whether a proxy or a login page intercepts the request."
            raise TransportError("HTML page in place of the response", code="HTML_PAGE", where=where, remedy=remedy)
        self._check_size(self._total, where)

    def resume(self, head: ResponseHead, where: str) -> None:
        """Process the head of a part; if it does not continue the data, the next attempt starts over."""
        found = head.headers.get("content-range", "nothing")
        match = CONTENT_RANGE.fullmatch(found)
        total = self._total if match is None or match[2] == "*" else int(match[2])
        self._honest = (
            head.status == 206
            and match is not None
            and int(match[1]) == len(self.data)
            and total is not None
            and self._total in (None, total)
            and (self._etag is None or head.headers.get("etag") in (None, self._etag))
        )
        if not self._honest:
            raise _cut("wrong range from the server", where, f"from {len(self.data)} on", plain(found))
        self._total = total
        self._check_size(self._total, where)

    def read(self, head: ResponseHead, where: str) -> None:
        """Read the body."""
        encoding = head.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            raise TransportError(
                "compressed response", code="ENCODING", expected="identity", found=plain(encoding), where=where
            )
        for chunk in head.chunks:
            self.data += chunk
            self.most = max(self.most, len(self.data))
            self._check_size(len(self.data), where)
        if self._total is not None and len(self.data) != self._total:
            self._honest = len(self.data) < self._total
            raise _cut("truncated response", where, f"{self._total} bytes", len(self.data))

    def _check_size(self, size: int | None, where: str) -> None:
        if size is not None and size > self._limit:
            raise too_large(self._limit, size, where)


def _cut(what: str, where: str, expected: object, found: object) -> TransportError:
    return TransportError(what, code="CUT", expected=expected, found=found, where=where, retryable=True)
