"""Progress bars on stderr: over training steps, bytes, the parts of a viability test, and what has no parts."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from batteries.cell.manifest import TrainingPoint
from batteries.network.hub_environment import is_set
from registry.reports.summaries import stderr

if TYPE_CHECKING:
    from rich.progress import Progress


class TrainingBar:
    """A watcher that shows the step, the loss and the last reading."""

    def __init__(self, steps: int) -> None:
        from rich import progress as bars

        columns = (
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.description}"),
            bars.TimeRemainingColumn(),
        )
        self._progress = bars.Progress(*columns, console=stderr())
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


class TransferBar:
    """One bar over all the bytes of a pull."""

    def __init__(self) -> None:
        from rich import progress as bars

        columns = (bars.BarColumn(), bars.DownloadColumn(), bars.TransferSpeedColumn(), bars.TimeRemainingColumn())
        console = stderr()
        hidden = not console.is_terminal or is_set("HF_HUB_DISABLE_PROGRESS_BARS")
        self._progress = bars.Progress(*columns, console=console, transient=True, disable=hidden)
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> TransferBar:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def moved(self, done: int, total: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=done, total=total)


class TrialBar:
    """A bar over the parts of viability tests, one row a cell; told how to go on where a test is stopped."""

    def __init__(self) -> None:
        from rich import progress as bars

        columns = (
            bars.TextColumn("{task.fields[cell]}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.description}"),
        )
        self._progress = bars.Progress(*columns, bars.TimeElapsedColumn(), console=stderr(), transient=True)

    def __enter__(self) -> TrialBar:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()
        if kind in (KeyboardInterrupt, SystemExit):
            stderr().print("stopped; the parts that were finished are kept, and the same command goes on from there")

    def of(self, cell: str) -> Callable[[str, int, int], None]:
        """New row, and how to move it."""
        row = self._progress.add_task("loading", cell=cell, total=None)

        def moved(words: str, done: int, parts: int) -> None:
            self._progress.update(row, description=words, completed=done, total=parts)

        return moved


def working(words: str) -> Progress:
    """What is being done, and for how long already: to be entered while it is. Nothing where stderr is no terminal."""
    from rich import progress as bars

    console = stderr()
    columns = (bars.SpinnerColumn(), bars.TextColumn("{task.description}"), bars.TimeElapsedColumn())
    shown = bars.Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    shown.add_task(words, total=None)
    return shown


class ImageBar:
    """A bar over the images that cells are run on; says how to go on where a run is stopped.

    Args:
        images: Number of images.
        resumes: True where another run resumes from the finished images.
    """

    def __init__(self, images: int, resumes: bool) -> None:
        from rich import progress as bars

        console = stderr()
        columns = (bars.TextColumn("images"), bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeRemainingColumn())
        self._progress = bars.Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("", total=images)
        self._resumes = resumes

    def __enter__(self) -> ImageBar:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()
        if self._resumes and kind in (KeyboardInterrupt, SystemExit):
            stderr().print("stopped; finished images are kept, and the same command resumes from them")

    def moved(self, done: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=done)
