"""Limits of a network call: total time, time without a byte, bytes, and least speed."""

from __future__ import annotations

import time
from dataclasses import dataclass

from batteries.errors import TransportError

USUAL = 128 * 2**20  # bytes of a body that the deadline covers: the largest cell
LARGE = 10**6  # bytes per second assumed for the deadline of a larger body, such as a composed model
FRAMING = 64  # least ratio of body to framing of a chunked response; chunks of 1 KiB have 128


@dataclass(frozen=True)
class Limits:
    """Limits of a network call.

    Attributes:
        deadline: Seconds for the whole call, including retries; more if the body may be larger than any cell.
        attempts: Consecutive failures without a new byte before the call fails.
        pause: Longest wait between two attempts, in seconds.
        connect: Seconds for name lookup, connection and TLS handshake, each.
        stall: Seconds without a byte; also the window over which ``slowest`` is measured.
        slowest: Least speed, in bytes per second.
        redirects: Largest number of redirects followed.
        slack: Bytes that may be read from the socket beyond the largest body, including headers.
    """

    deadline: float = 60.0
    attempts: int = 6
    pause: float = 20.0
    connect: float = 10.0
    stall: float = 15.0
    slowest: int = 1024
    redirects: int = 5
    slack: int = 64 * 1024

    def patience(self, limit: int) -> float:
        """Return the deadline of a call with a body of up to ``limit`` bytes, in seconds.

        >>> Limits().patience(2**20), round(Limits().patience(2**32))
        (60.0, 4221)
        """
        return self.deadline + max(0, limit - USUAL) / LARGE


DEFAULT = Limits()


class CallBudget:
    """Remaining time and bytes of one exchange.

    Args:
        limits: Limits of the call.
        ends: End of the call on the monotonic clock.
        limit: Largest body, in bytes.
        where: Address in messages.

    Attributes:
        connected: True once the exchange opened a connection to the server or, if there is one, to the proxy.
    """

    def __init__(self, limits: Limits, *, ends: float, limit: int, where: str) -> None:
        self.limits = limits
        self.where = where
        self.connected = False
        self._ends = ends
        self._limit = limit
        self._room = limit + limit // FRAMING + limits.slack
        self._since: float | None = None
        self._count = 0

    @property
    def over(self) -> bool:
        """True once the deadline has passed."""
        return time.monotonic() >= self._ends

    def seconds(self, most: float) -> float:
        """Return the time left for one operation, at most ``most`` seconds.

        Raises:
            TransportError: deadline passed (``DEADLINE``).
        """
        left = self._ends - time.monotonic()
        if left <= 0:
            raise self.late()
        return min(most, left)

    def room(self, most: int) -> int:
        """Return the number of bytes that one read may return, up to ``most``.

        Raises:
            TransportError: no bytes left (``LIMIT``).
        """
        if self._room <= 0:
            raise too_large(self._limit, "more, headers and framing included", self.where)
        return min(most, self._room)

    def received(self, count: int) -> None:
        """Account for the bytes of a read.

        Raises:
            TransportError: below the least speed since the first byte or the last window (``SLOW``).
        """
        now = time.monotonic()
        self._room -= count
        self._count += count
        if self._since is None:
            self._since, self._count = now, 0
        seconds = now - self._since
        if count == 0 or seconds < self.limits.stall:
            return
        if self._count < self.limits.slowest * seconds:
            raise TransportError(
                "server too slow",
                code="SLOW",
                expected=f"at least {self.limits.slowest} bytes a second",
                found=f"{self._count / seconds:.0f} over {seconds:.1f} s",
                where=self.where,
                retryable=True,
            )
        self._since, self._count = now, 0

    def late(self) -> TransportError:
        """Return the error of a call past its deadline."""
        within = f"an answer within {self.limits.deadline:g} s"
        return TransportError("timeout of the server", code="DEADLINE", expected=within, where=self.where, retryable=True)


def too_large(limit: int, found: object, where: str) -> TransportError:
    """Return the error of a response with too many bytes."""
    return TransportError("response too large", code="LIMIT", expected=f"at most {limit} bytes", found=found, where=where)
