"""Log lines in place of progress bars where stderr is no terminal: one every 30 seconds while a command works."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType

import typer

from batteries.text import plain

INTERVAL = 30.0  # seconds between two lines
MEGABYTE = 1e6


class LogLines:
    """A thread that prints the state of the work every so often; a command that is done before prints nothing.

    Args:
        words: Subject of the work, such as ``training low/mine``.
        unit: Unit of what is counted, such as ``steps``; ``bytes`` are printed as MB.
        clock: Clock in seconds.
        write: Function that prints a line.
    """

    def __init__(
        self,
        words: str,
        unit: str = "",
        *,
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[str], None] | None = None,
    ) -> None:
        self._words = words
        self._unit = unit
        self._clock = clock
        self._write = write or _to_stderr
        self._started = clock()
        self._state = ""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batteries-log", daemon=True)

    def __enter__(self) -> LogLines:
        with contextlib.suppress(RuntimeError):  # no thread can start: the work goes on without lines
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1)  # its line may wait for a reader of stderr

    def show(self, words: str = "", done: int | None = None, total: int | None = None, *, subject: str | None = None) -> None:
        """Keep a state for the next line.

        Args:
            words: Description of the current part.
            done: Parts done; None if they are not counted.
            total: Parts in total; None if unknown.
            subject: New subject of the work; None for the same.
        """
        self._words = self._words if subject is None else subject
        self._state = ", ".join(filter(None, (self._count(done, total), words)))

    def line(self) -> str:
        """Return a line: the time elapsed, the subject, parts done and in total, the current part."""
        elapsed = timedelta(seconds=int(self._clock() - self._started))
        return f"{elapsed} {self._words}" + (f": {self._state}" if self._state else "")

    def _count(self, done: int | None, total: int | None) -> str:
        if done is None:
            return ""
        if self._unit == "bytes":
            whole = "" if total is None else f" of {total / MEGABYTE:.1f}"
            return f"{done / MEGABYTE:.1f}{whole} MB"
        whole = "" if total is None else f" of {total}"
        return f"{done}{whole} {self._unit}".rstrip()

    def _run(self) -> None:
        while not self._done.wait(INTERVAL):
            self._write(self.line())


def _to_stderr(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # a closed stderr does not stop the work
        typer.echo(plain(line), err=True)
