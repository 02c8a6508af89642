"""Faults of a server, by plan: which requests, and what goes wrong with them. The same seed gives the same faults."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Collection
from dataclasses import dataclass, field


@dataclass
class Fault:
    """What happens to the requests that match.

    Attributes:
        kind: Of these requests (``file``, ``commit``, ...); empty for any.
        path: A regular expression, searched in the path.
        nth: Which of the matching requests, counted from 1; empty for all.
        chance: With what probability.
        status: Answer so, and do nothing that was asked.
        headers: Headers set on the answer, whatever it is: ``Retry-After``, ``X-Error-Code``, ``ETag``, ``Location``.
        lost: Do what was asked, and hang up without an answer.
        cut: Hang up after so many bytes of the body.
        flip: Invert one bit of this byte of the body, counted modulo its length.
        stall: Sit still for so many seconds before the body, or until the server stops.
        drip: Send one byte at a time, with so many seconds between two.
        endless: Send the body, and then zeros until the client hangs up.
        size: The ``Content-Length`` to claim.
        gzip: Send this many zeros, compressed, as if that had been asked for.
        whole: Answer a request for a range with the whole.
    """

    kind: str = ""
    path: str = ""
    nth: Collection[int] = ()
    chance: float = 1.0
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False
    cut: int | None = None
    flip: int | None = None
    stall: float = 0.0
    drip: float = 0.0
    endless: bool = False
    size: int | None = None
    gzip: int = 0
    whole: bool = False


class Plan:
    """Faults in the order in which they are tried; the first that strikes is the one."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._faults: list[tuple[Fault, list[int]]] = []

    def add(self, **fields) -> None:
        """One more fault; the fields are those of :class:`Fault`."""
        self._faults.append((Fault(**fields), [0]))

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._faults.clear()

    def strike(self, kind: str, path: str) -> Fault | None:
        """The fault of this request."""
        with self._lock:
            for fault, matched in list(self._faults):
                if fault.kind not in ("", kind) or not re.search(fault.path, path):
                    continue
                matched[0] += 1
                due = not fault.nth or matched[0] in fault.nth
                if due and self._random.random() < fault.chance:
                    return fault
        return None
