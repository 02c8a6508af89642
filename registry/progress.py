"""A progress bar over training steps, on stderr."""

from __future__ import annotations

from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from batteries.manifest import TrainingPoint
from registry.reports import stderr


class TrainingBar:
    """A watcher that shows the step, the loss and the last reading."""

    def __init__(self, steps: int) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self._progress = Progress(*columns, console=stderr())
        self._task = self._progress.add_task("", total=steps)
        self._reading = ""

    def __enter__(self) -> TrainingBar:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def stepped(self, step: int, loss: float) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=step, description=f"loss {loss:.4f}{self._reading}")

    def read(self, point: TrainingPoint) -> None:
        """Remember a reading."""
        cv = "degenerate" if point.cv is None else f"{point.cv:.4f}"
        self._reading = f"  probe: MSE {point.mse:.4f}, CV {cv}"
