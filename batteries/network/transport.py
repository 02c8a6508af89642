"""Reading from the network: every byte this project reads over HTTP comes through here, bounded in size and in time.

A call is one GET with its redirects, its retries and its resumptions. It ends within its deadline, with the whole body or
with an error of :mod:`batteries.errors`. What is read is not trusted: the caller compares it with the digest it knows.
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
AGAIN = {"UNREACHABLE", "STALLED", "CUT", "UNAVAILABLE", "RATE_LIMITED"}  # codes after which another attempt may help
FIRST_PAUSE = 0.25  # seconds after the first failure in a row; doubled after each further one
BREATH = 0.02  # seconds, at most, after a failure that brought new bytes
DAY = 86_400.0  # seconds; no longer wait is believed
SMALL = 16 * 1024  # a body nobody needs is read up to here, so that its connection can be used again
REDIRECTS = {301, 302, 303, 307, 308}
RATE_LIMIT = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})")


@dataclass(frozen=True)
class Answer:
    """What a server said.

    Attributes:
        status: The HTTP status.
        headers: Looked up whatever the case of their names.
        body: All of it.
        url: Where it came from in the end, without query.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    url: str


class Transport:
    """Reads from one origin, and from wherever that one sends its readers. Safe to share between threads.

    Args:
        origin: ``https://host[:port][/path]``; plain http for this machine only.
        token: Goes to exactly this scheme, host and port.
        limits: What each call may take.
        agent: The name this program gives itself.
        denial: The error of a status of 401 or 403 of the origin itself, by that and the header ``X-Error-Code``; left out, one
            that knows nothing of the server.

    Attributes:
        requests: How many were sent.

    Raises:
        InputError: an origin that is no address (``BAD_URL``), a token that cannot be one (``TOKEN``).
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
        """Close every connection; calls that other threads have under way end with ``CLOSED``."""
        self._pools.close()

    def get(self, url: str, *, limit: int, expect: frozenset[int] = frozenset({200}), limits: Limits | None = None) -> Answer:
        """Read one address, whatever it takes within the limits.

        An answer that declares neither its length nor chunks ends where its connection does: a cut is not seen.

        Args:
            url: Absolute, or a path on the origin.
            limit: Most bytes of body.
            expect: Statuses that are an answer; any other one is an error.
            limits: What this call may take; left out, what each may.

        Raises:
            InputError: not an address (``BAD_URL``), or a ``PROXY`` or ``CERTIFICATES`` of the environment.
            NotFoundError: status 404 (``NO_FILE``); ``found`` is the server's X-Error-Code, where it sent one.
            PolicyError: status 401 or 403 (``DENIED``); a way without encryption (``INSECURE``, ``INSECURE_REDIRECT``).
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
        """Read what is still missing, once."""
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
        """Answer at the end of the redirects, and its address."""
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
                raise _redirects("a redirect to what is no address", call.start, found=plain(location))
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
        """Error of a status that is no answer."""
        where = urls.shown(url)
        code = plain(head.headers.get("x-error-code", "")) or None
        found = code or f"status {head.status}"
        _drain(head)
        if head.status in (401, 403) and self._denial is not None and urls.origin(url) == self._origin:
            return self._denial(head.status, code)
        if head.status in (401, 403):
            remedy = "Check the token, and that its owner may read this."
            return PolicyError("the server denies access", code="DENIED", found=found, where=where, remedy=remedy)
        return _unanswered(head.status, found, where)


class _Call:
    """The state of one call between its attempts."""

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
        """Seconds until the next attempt.

        Raises:
            TransportError: no further attempt makes sense: the one given, or ``RATE_LIMITED`` where the server asks for
                more time than is left.
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
            "the server asks to be left alone for longer than this call may take",
            code="RATE_LIMITED",
            expected=f"an answer within {self.limits.deadline:g} s",
            found=f"{error.found}, and a wait of {asked:.0f} s",
            where=error.where,
            remedy=f"Try again after {when:%Y-%m-%d %H:%M:%S} UTC.",
            retryable=True,
        )


def _unanswered(status: int, found: str, where: str) -> BatteriesError:
    if status == 404:
        return NotFoundError("no such file on the server", code="NO_FILE", found=found, where=where)
    if status == 429:
        return TransportError("too many requests", code="RATE_LIMITED", found=found, where=where, retryable=True)
    if status in (500, 502, 503, 504):
        return TransportError("the server is in trouble", code="UNAVAILABLE", found=found, where=where, retryable=True)
    return TransportError("the server gave no answer that is of use", code="STATUS", found=found, where=where)


def _asked_wait(headers: httpx2.Headers) -> float | None:
    """Seconds the server asks to wait, in Retry-After or RateLimit; None where it does not, or not in readable words."""
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
    """Read a small body away, so that the connection can be used again; a larger one costs the connection."""
    if head.headers.get("content-length", "").isdigit() and int(head.headers["content-length"]) <= SMALL:
        for _ in head.chunks:
            pass


def _redirects(what: str, start: httpx2.URL, *, expected: object = None, found: object = None) -> TransportError:
    return TransportError(what, code="REDIRECTS", expected=expected, found=found, where=urls.shown(start))


def _checked(token: str | None) -> str | None:
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise InputError("a token that cannot be one", code="TOKEN", expected="printable ASCII without blanks")
    return token or None
