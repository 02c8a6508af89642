"""What one call over the network may take: time in all, time without a byte, bytes, and how slowly they may come."""

from __future__ import annotations

import time
from dataclasses import dataclass

from batteries.errors import TransportError

USUAL = 128 * 2**20  # bytes of a body that the deadline is for: any cell has fewer
LARGE = 10**6  # bytes a second at which a larger body is waited for: a composed model
FRAMING = 64  # a chunked answer may spend one byte in so many on its framing; chunks of 1 KiB spend one in 128


@dataclass(frozen=True)
class Limits:
    """What one call may take.

    Attributes:
        deadline: Seconds for the whole call, with its retries; more where the body may be larger than any cell.
        attempts: Failures in a row, none of which brought a new byte, before the call gives up.
        pause: Most seconds to wait between two attempts.
        connect: Seconds to find and reach a server, and to agree on keys with it.
        stall: Seconds without a byte; also the window over which ``slowest`` is judged.
        slowest: Bytes a second.
        redirects: How many are followed.
        slack: Bytes that may be read from the socket beyond what a body may have; headers are among them.
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
        """Seconds for a call that may bring so many bytes.

        >>> Limits().patience(2**20), round(Limits().patience(2**32))
        (60.0, 4221)
        """
        return self.deadline + max(0, limit - USUAL) / LARGE


DEFAULT = Limits()


class CallBudget:
    """What one exchange may still take.

    Args:
        limits: Of the call.
        ends: When the call ends, on the monotonic clock.
        limit: Most bytes of body.
        where: The address, for errors.

    Attributes:
        connected: Whether the exchange opened a connection to the first machine on the way: the server, or the proxy before it.
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
        """Whether the deadline has passed."""
        return time.monotonic() >= self._ends

    def seconds(self, most: float) -> float:
        """How long one operation may take.

        Raises:
            TransportError: the deadline has passed (``DEADLINE``).
        """
        left = self._ends - time.monotonic()
        if left <= 0:
            raise self.late()
        return min(most, left)

    def room(self, most: int) -> int:
        """How many bytes one read may bring.

        Raises:
            TransportError: there were too many already (``LIMIT``).
        """
        if self._room <= 0:
            raise too_large(self._limit, "more, headers and framing included", self.where)
        return min(most, self._room)

    def received(self, count: int) -> None:
        """Note what a read brought.

        Raises:
            TransportError: slower than bearable since the first byte or the last window (``SLOW``).
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
                "the server sends too slowly",
                code="SLOW",
                expected=f"at least {self.limits.slowest} bytes a second",
                found=f"{self._count / seconds:.0f} over {seconds:.1f} s",
                where=self.where,
                retryable=True,
            )
        self._since, self._count = now, 0

    def late(self) -> TransportError:
        """Error of a call that took too long."""
        within = f"an answer within {self.limits.deadline:g} s"
        return TransportError("the server took too long", code="DEADLINE", expected=within, where=self.where, retryable=True)


def too_large(limit: int, found: object, where: str) -> TransportError:
    """Error of an answer with too many bytes."""
    return TransportError("the answer is too large", code="LIMIT", expected=f"at most {limit} bytes", found=found, where=where)
