"""HTTP reading with limits on size and time: every byte this project reads over HTTP comes through here.

A call is one GET with its redirects, retries and resumptions. It ends within its deadline, with the whole body or with an
error of :mod:`batteries.errors`. The body is untrusted: the caller compares it with a known digest.
"""

from __future__ import annotations

import contextlib
import email.utils
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx2

from batteries import __version__
from batteries.errors import BatteriesError, InputError, NotFoundError, PolicyError, TransportError
from batteries.network import urls
from batteries.network.connections import Pools, ResponseHead, plain
from batteries.network.limits import DEFAULT, CallBudget, Limits
from batteries.network.resumable_body import ResumableBody

__all__ = ["Answer", "Limits", "Transport"]

Denial = Callable[[int, str | None], BatteriesError]

AGENT = f"svae-batteries/{__version__}"
AGAIN = {"UNREACHABLE", "STALLED", "CUT", "UNAVAILABLE", "RATE_LIMITED"}  # codes of errors that are retried
FIRST_PAUSE = 0.25  # seconds after the first of consecutive failures; doubled after each further one
BREATH = 0.02  # seconds, at most, after a failure with new bytes
DAY = 86_400.0  # seconds; longest wait accepted from a server
SMALL = 16 * 1024  # bytes of an unneeded body that are read to reuse its connection
REDIRECTS = {301, 302, 303, 307, 308}
RATE_LIMIT = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})")


@dataclass(frozen=True)
class Answer:
    """Response of a server.

    Attributes:
        status: HTTP status.
        headers: Headers with case-insensitive names.
        body: Complete body.
        url: Final address, without its query.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    url: str


class Transport:
    """Reader of one origin and of the targets of its redirects. Safe to share between threads.

    Args:
        origin: Address ``https://host[:port][/path]``; plain http only for this machine.
        token: Access token, sent only to this scheme, host and port.
        limits: Limits of each call.
        agent: User agent.
        denial: Function of status 401 or 403 of the origin and of the header ``X-Error-Code`` that makes the error; by default
            a general one.

    Attributes:
        requests: Number of requests sent.

    Raises:
        InputError: invalid address of the origin (``BAD_URL``), malformed token (``TOKEN``).
        PolicyError: plain http to another machine (``INSECURE``).
    """

    def __init__(
        self,
        *,
        origin: str,
        token: str | None = None,
        limits: Limits = DEFAULT,
        agent: str = AGENT,
        denial: Denial | None = None,
    ) -> None:
        self.limits = limits
        self.requests = 0
        self._origin = urls.origin(urls.read(origin))
        self._base = origin.rstrip("/")
        self._agent = agent
        self._denial = denial
        self._token = _checked(token)
        self._pools = Pools()
        self._lock = threading.Lock()

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection; calls in progress in other threads end with ``CLOSED``."""
        self._pools.close()

    def get(self, url: str, *, limit: int, expect: frozenset[int] = frozenset({200}), limits: Limits | None = None) -> Answer:
        """Read one address within the limits, with retries and redirects.

        A response that declares neither its length nor chunks ends with its connection, so its truncation is not detected.

        Args:
            url: Absolute address, or path on the origin.
            limit: Largest body, in bytes.
            expect: Statuses to return; any other is an error.
            limits: Limits of this call; by default those of the transport.

        Raises:
            InputError: invalid address (``BAD_URL``), or unusable ``PROXY`` or ``CERTIFICATES`` in the environment.
            NotFoundError: status 404 (``NO_FILE``); ``found`` is the server's X-Error-Code, if it sent one.
            PolicyError: status 401 or 403 (``DENIED``); unencrypted address (``INSECURE``, ``INSECURE_REDIRECT``).
            TransportError: retryable: ``UNREACHABLE``, ``STALLED``, ``CUT``, ``UNAVAILABLE``, ``RATE_LIMITED``, ``SLOW`` and
                ``DEADLINE``; final: ``LIMIT``, ``ENCODING``, ``HTML_PAGE``, ``REDIRECTS``, ``CERTIFICATE``, ``PROXY_AUTH``,
                ``STATUS`` and ``CLOSED``.
        """
        start = urls.read(f"{self._base}{url}" if str(url).startswith("/") else url)
        call = _Call(limits or self.limits, start, limit, expect)
        while True:
            try:
                return self._attempt(call)
            except TransportError as error:
                if error.code not in AGAIN:
                    raise
                wait = call.wait_after(error)
            self._pools.closed.wait(wait)

    def _attempt(self, call: _Call) -> Answer:
        """Read the missing part, once."""
        part = call.body.ask_for()
        with self._final(call, part) as (head, url):
            where = urls.shown(url)
            if part and head.status in (206, 416):
                call.body.resume(head, where)
            elif head.status in call.expect:
                call.body.start(head, where)
            else:
                call.asked_wait = _asked_wait(head.headers)
                raise self._refusal(head, url)
            call.body.read(head, where)
        return Answer(call.body.status, call.body.headers, bytes(call.body.data), where)

    @contextlib.contextmanager
    def _final(self, call: _Call, part: dict[str, str]) -> Iterator[tuple[ResponseHead, httpx2.URL]]:
        """Yield the response at the end of the redirects, and its address."""
        url = call.start
        for _ in range(call.limits.redirects + 1):
            with self._ask(call, url, part) as head:
                location = head.headers.get("location")
                if head.status not in REDIRECTS or head.status in call.expect or location is None:
                    yield head, url
                    return
                target = urls.redirected(url, location)
                _drain(head)
            if target is None:
                raise _redirects("redirect to an invalid address", call.start, found=plain(location))
            url = target
        raise _redirects("too many redirects", call.start, expected=f"at most {call.limits.redirects}")

    def _ask(self, call: _Call, url: httpx2.URL, part: dict[str, str]) -> contextlib.AbstractContextManager[ResponseHead]:
        headers = {"User-Agent": self._agent, "Accept": "*/*", "Accept-Encoding": "identity", **part}
        if self._token is not None and urls.origin(url) == self._origin:
            headers["Authorization"] = f"Bearer {self._token}"
        budget = CallBudget(call.limits, ends=call.ends, limit=call.limit, where=urls.shown(url))
        with self._lock:
            self.requests += 1
        return self._pools.ask(url, headers, budget)

    def _refusal(self, head: ResponseHead, url: httpx2.URL) -> BatteriesError:
        """Return the error of an unexpected status."""
        where = urls.shown(url)
        code = plain(head.headers.get("x-error-code", "")) or None
        found = code or f"status {head.status}"
        _drain(head)
        if head.status in (401, 403) and self._denial is not None and urls.origin(url) == self._origin:
            return self._denial(head.status, code)
        if head.status in (401, 403):
            remedy = "Check the token, and that its owner has permission to read this."
            return PolicyError("access denied by the server", code="DENIED", found=found, where=where, remedy=remedy)
        return _unanswered(head.status, found, where)


class _Call:
    """State of one call between its attempts."""

    def __init__(self, limits: Limits, start: httpx2.URL, limit: int, expect: frozenset[int]) -> None:
        self.limits = limits
        self.start = start
        self.limit = limit
        self.expect = expect
        self.ends = time.monotonic() + limits.patience(limit)
        self.body = ResumableBody(limit)
        self.asked_wait: float | None = None
        self._failures = 0
        self._most = 0

    def wait_after(self, error: TransportError) -> float:
        """Return the seconds until the next attempt.

        Raises:
            TransportError: given error, if no further attempt is allowed; ``RATE_LIMITED`` if the server asks for more time
                than is left.
        """
        progress = self.body.most > self._most
        self._most = self.body.most
        self._failures = 0 if progress else self._failures + 1
        asked, self.asked_wait = self.asked_wait, None
        left = self.ends - time.monotonic()
        if asked is not None and asked >= left:
            raise self._rate_limited(error, asked) from error
        own = BREATH if progress else FIRST_PAUSE * 2 ** (self._failures - 1)
        wait = min(self.limits.pause, max(own * random.uniform(0.5, 1.0), asked or 0.0))
        if self._failures >= self.limits.attempts or wait >= left:
            raise error
        return wait

    def _rate_limited(self, error: TransportError, asked: float) -> TransportError:
        when = datetime.now(UTC) + timedelta(seconds=asked)
        return TransportError(
            "rate limit longer than the deadline",
            code="RATE_LIMITED",
            expected=f"an answer within {self.limits.deadline:g} s",
            found=f"{error.found}, and a wait of {asked:.0f} s",
            where=error.where,
            remedy=f"Try again after {when:%Y-%m-%d %H:%M:%S} UTC.",
            retryable=True,
        )


def _unanswered(status: int, found: str, where: str) -> BatteriesError:
    if status == 404:
        return NotFoundError("missing file on the server", code="NO_FILE", found=found, where=where)
    if status == 429:
        return TransportError("too many requests", code="RATE_LIMITED", found=found, where=where, retryable=True)
    if status in (500, 502, 503, 504):
        return TransportError("server error", code="UNAVAILABLE", found=found, where=where, retryable=True)
    return TransportError("unexpected status of the server", code="STATUS", found=found, where=where)


def _asked_wait(headers: httpx2.Headers) -> float | None:
    """Return the wait requested by the server in Retry-After or RateLimit, in seconds; None if absent or unreadable."""
    waits = [float(seconds) for seconds in RATE_LIMIT.findall(headers.get("ratelimit", ""))]
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+", text, re.ASCII):
        waits.append(float(text))
    else:
        with contextlib.suppress(ValueError, TypeError, OverflowError, IndexError):
            date = email.utils.parsedate_tz(text)
            waits += [] if date is None else [email.utils.mktime_tz(date) - time.time()]
    return min(DAY, max(0.0, *waits)) if waits else None


def _drain(head: ResponseHead) -> None:
    """Discard a small body, so that the connection can be reused; a larger one closes it."""
    if head.headers.get("content-length", "").isdigit() and int(head.headers["content-length"]) <= SMALL:
        for _ in head.chunks:
            pass


def _redirects(what: str, start: httpx2.URL, *, expected: object = None, found: object = None) -> TransportError:
    return TransportError(what, code="REDIRECTS", expected=expected, found=found, where=urls.shown(start))


def _checked(token: str | None) -> str | None:
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise InputError("malformed token", code="TOKEN", expected="printable ASCII without blanks")
    return token or None
