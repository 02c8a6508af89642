"""Seconds of the steps of a command."""

from __future__ import annotations

import time


class Stopwatch:
    """Seconds of each step of a command, for its last line."""

    def __init__(self) -> None:
        self._begun: list[tuple[str, float]] = []

    def begin(self, step: str) -> None:
        """Begin a step, unless it is the current one; it ends with the next one or when the seconds are printed."""
        if self._begun and self._begun[-1][0] == step:
            return
        self._begun.append((step, time.monotonic()))

    def __str__(self) -> str:
        ends = [start for _, start in self._begun[1:]] + [time.monotonic()]
        return ", ".join(f"{step} {end - start:.1f} s" for (step, start), end in zip(self._begun, ends, strict=True))
