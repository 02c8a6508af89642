"""Guard of huggingface_hub's shared session while this package writes: where the token may go, and how much an answer may take.

The session is one for the process, and the client uses threads of its own, so that a guard holds for every request that writes
or carries the guarded token, as long as a call of this package runs.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
import huggingface_hub

from batteries.errors import PolicyError, TransportError
from batteries.network import urls
from batteries.network.hub_answers import MAX_ANSWER

WRITING = ("POST", "PUT", "PATCH", "DELETE")
TOKEN = "Authorization"


@dataclass(frozen=True, eq=False)
class Guard:
    """Bounds of one call.

    Attributes:
        token: Token that goes to the endpoint alone; None without one.
        origin: Scheme, host and port of the endpoint.
        ends: Time on the monotonic clock after which no answer is read on.
    """

    token: str | None
    origin: tuple[str, bytes, int]
    ends: float

    def covers(self, request: httpx2.Request) -> bool:
        """Tell whether a request writes or carries the token."""
        return request.method in WRITING or self.carried_by(request)

    def carried_by(self, request: httpx2.Request) -> bool:
        """Tell whether a request carries the token."""
        return self.token is not None and self.token in request.headers.get(TOKEN, "")


_guards: list[Guard] = []


@contextlib.contextmanager
def guarded(endpoint: str, token: str | None, seconds: float) -> Iterator[None]:
    """Guard the requests of huggingface_hub inside of a ``with``.

    Args:
        endpoint: Address of the Hub.
        token: Token that is sent there; None for none.
        seconds: Time for the whole call.

    Raises:
        PolicyError: inside, a request to an unencrypted address on another machine (``INSECURE``).
        TransportError: inside, an answer that is compressed or too large (``LIMIT``), or too late (``DEADLINE``).
    """
    _watch(huggingface_hub.get_session())
    guard = Guard(token, urls.origin(urls.read(endpoint)), time.monotonic() + seconds)
    _guards.append(guard)
    try:
        yield
    finally:
        _guards.remove(guard)


def _watch(session: httpx2.Client) -> None:
    hooks = session.event_hooks
    if _before not in hooks["request"]:
        session.event_hooks = {"request": [*hooks["request"], _before], "response": [*hooks["response"], _after]}


def _before(request: httpx2.Request) -> None:
    for guard in list(_guards):
        if not guard.covers(request):
            continue
        if request.url.scheme != "https" and not urls.is_loopback(request.url):
            raise PolicyError("unencrypted address", code="INSECURE", expected="https", where=urls.shown(request.url))
        request.headers["Accept-Encoding"] = "identity"
        if guard.carried_by(request) and urls.origin(request.url) != guard.origin:
            del request.headers[TOKEN]


def _after(response: httpx2.Response) -> None:
    guard = next((one for one in list(_guards) if one.covers(response.request)), None)
    if guard is None:
        return
    where = urls.shown(response.request.url)
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise TransportError("compressed answer", code="LIMIT", expected="no compression", found=encoding[:40], where=where)
    assert isinstance(response.stream, httpx2.SyncByteStream)
    response.stream = _Bounded(response.stream, guard.ends, where)


class _Bounded(httpx2.SyncByteStream):
    """Body of an answer, up to a size and a time."""

    def __init__(self, stream: httpx2.SyncByteStream, ends: float, where: str) -> None:
        self._stream = stream
        self._ends = ends
        self._where = where

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for part in self._stream:
            size += len(part)
            if size > MAX_ANSWER:
                raise TransportError(
                    "answer too large", code="LIMIT", expected=f"at most {MAX_ANSWER} bytes", found=size, where=self._where
                )
            if time.monotonic() > self._ends:
                raise TransportError("timeout of the Hub", code="DEADLINE", where=self._where, retryable=True)
            yield part

    def close(self) -> None:
        self._stream.close()
