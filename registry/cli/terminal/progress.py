"""Progress on stderr: bars on a terminal, elsewhere a log line every 30 seconds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from batteries.cell.manifest import TrainingPoint
from batteries.network.hub_environment import is_set
from registry.cli.terminal import interruption
from registry.cli.terminal.log_lines import LogLines
from registry.cli.terminal.plain_column import plain_column
from registry.reports.figures import number
from registry.reports.summaries import stderr

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

    from composer.adaptation.guard import AdaptMoment
    from composer.vae.reading_document import VaeReading
    from composer.vae.training import StepTerms


class _Bar:
    """A bar of rich, or log lines where stderr is no terminal; neither if it is hidden."""

    def __init__(self, columns: tuple[ProgressColumn, ...], log: LogLines, *, transient: bool, hidden: bool = False) -> None:
        self._progress = _progress(columns, transient, hidden)
        self._log = log
        self._shown: AbstractContextManager[Any] | None = None
        if not hidden:
            self._shown = log if self._progress.disable else self._progress

    def __enter__(self) -> Any:
        if self._shown is not None:
            self._shown.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._shown is not None:
            self._shown.__exit__(kind, error, trace)


class _StepBar(_Bar):
    """A bar over the steps of a run, with words beside it."""

    def __init__(self, words: str, steps: int, *, transient: bool) -> None:
        from rich import progress as bars

        columns = (
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            plain_column(),
            bars.TimeRemainingColumn(),
        )
        super().__init__(columns, LogLines(words, "steps"), transient=transient)
        self._steps = steps
        self._task = self._progress.add_task("", total=steps)

    def _show(self, words: str, step: int) -> None:
        self._progress.update(self._task, completed=step, description=words)
        self._log.show(words, step, self._steps)


class _ReadingBar(_StepBar):
    """A bar over the steps of a training, with the last reading of the probe.

    Args:
        steps: Steps of the run.
        name: Name of what is trained.
    """

    def __init__(self, steps: int, name: str) -> None:
        super().__init__(f"training {name}", steps, transient=False)
        self._reading = ""


class TrainingBar(_ReadingBar):
    """A watcher of a cell's training that shows the step, the loss and the last reading."""

    def stepped(self, step: int, loss: float) -> None:
        """Show a step and its loss."""
        self._show(f"loss {number(loss)}{self._reading}", step)

    def read(self, point: TrainingPoint) -> None:
        """Keep a reading to show beside the next steps."""
        cv, _ = point.deciding_cv
        self._reading = f"  probe: MSE {number(point.mse)}, axial CV {'degenerate' if cv is None else number(cv)}"


class VaeBar(_ReadingBar):
    """A watcher of a battery VAE's training that shows the step, error and divergence, and the last reading."""

    def stepped(self, step: int, found: StepTerms) -> None:
        """Show a step with its error and divergence."""
        self._show(f"MSE {number(found.mse)}, KL {number(found.divergence)}{self._reading}", step)

    def read(self, reading: VaeReading) -> None:
        """Keep a reading to show beside the next steps."""
        self._reading = f"  probe: MSE {number(reading.error)}, active {reading.active:.0%}"


class AdaptationBar(_StepBar):
    """A bar over the steps of an adaptation, with the last look of the guard.

    Args:
        steps: Steps of the host.
        cell: Name of the cell.
    """

    def __init__(self, steps: int, cell: str) -> None:
        super().__init__(f"adapting {cell}", steps, transient=True)

    def stepped(self, step: int, loss: float, moment: AdaptMoment | None) -> None:
        """Show a step with its loss; a step back takes the bar back."""
        words = f"loss {number(loss)}"
        if moment is not None:
            words += f"  content {moment.content:.3f}{'' if moment.holds else ', stepped back'}"
        self._show(words, step)


class TransferBar(_Bar):
    """One bar over all the bytes of a transfer."""

    def __init__(self) -> None:
        from rich import progress as bars

        columns = (bars.BarColumn(), bars.DownloadColumn(), bars.TransferSpeedColumn(), bars.TimeRemainingColumn())
        hidden = is_set("HF_HUB_DISABLE_PROGRESS_BARS")
        super().__init__(columns, LogLines("transferring", "bytes"), transient=True, hidden=hidden)
        self._task = self._progress.add_task("", total=None)

    def moved(self, done: int, total: int) -> None:
        """Show the bytes done and the bytes in total."""
        self._progress.update(self._task, completed=done, total=total)
        self._log.show("", done, total)


class TrialBar(_Bar):
    """Bars over the parts of viability tests, one row per cell."""

    def __init__(self) -> None:
        from rich import progress as bars

        columns = (
            plain_column("{task.fields[cell]}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            plain_column(),
            bars.TimeElapsedColumn(),
        )
        super().__init__(columns, LogLines("validating", "parts"), transient=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        if kind in (KeyboardInterrupt, SystemExit):
            _say_kept("parts")

    def of(self, cell: str) -> Callable[[str, int, int], None]:
        """Add a row for a cell and return the function that updates it."""
        row = self._progress.add_task("loading", cell=cell, total=None)

        def moved(words: str, done: int, parts: int) -> None:
            self._progress.update(row, description=words, completed=done, total=parts)
            self._log.show(words, done, parts, subject=f"validating {cell}")

        return moved


class TaskBar(_Bar):
    """A bar over the tasks that an engine runs.

    Args:
        words: Subject of the work, such as ``validating``.
        unit: Unit of what is counted, such as ``cells``.
        total: Number of tasks; None while it is unknown.
        kept: Finished parts that another run resumes from; None for none.
    """

    def __init__(self, words: str, unit: str, total: int | None, kept: str | None = None) -> None:
        from rich import progress as bars

        columns = (bars.TextColumn(unit), bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeElapsedColumn())
        super().__init__(columns, LogLines(words, unit), transient=True)
        self._task = self._progress.add_task("", total=total)
        self._total = total
        self._done = 0
        self._kept = kept

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        if self._kept is not None and kind in (KeyboardInterrupt, SystemExit):
            _say_kept(self._kept)

    def ended(self) -> None:
        """Count one more task."""
        self.moved(self._done + 1, self._total)

    def moved(self, done: int, total: int | None) -> None:
        """Show the tasks done and the tasks in all."""
        self._done = done
        self._progress.update(self._task, completed=done, total=total)
        self._log.show("", done, total)


class ImageBar(_Bar):
    """A bar over the images that cells are run on.

    Args:
        images: Number of images.
        resumes: True where another run resumes from the finished images.
    """

    def __init__(self, images: int, resumes: bool) -> None:
        from rich import progress as bars

        columns = (bars.TextColumn("images"), bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeRemainingColumn())
        super().__init__(columns, LogLines("running", "images"), transient=True)
        self._images = images
        self._resumes = resumes
        self._task = self._progress.add_task("", total=images)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        if self._resumes and kind in (KeyboardInterrupt, SystemExit):
            _say_kept("images")

    def moved(self, done: int) -> None:
        """Show the images done."""
        self._progress.update(self._task, completed=done)
        self._log.show("", done, self._images)


class AdoptionBar(_Bar):
    """A bar over the cells that are adopted, whose number grows with each array that is read."""

    def __init__(self) -> None:
        from rich import progress as bars

        columns = (
            bars.TextColumn("cells"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            plain_column(),
            bars.TimeRemainingColumn(),
        )
        super().__init__(columns, LogLines("adopting", "cells"), transient=True)
        self._task = self._progress.add_task("", total=None)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        if kind in (KeyboardInterrupt, SystemExit):
            _say_kept("cells")

    def moved(self, done: int, total: int, cell: str) -> None:
        """Show the number of cells done, that of all known by now, and the last of them."""
        self._progress.update(self._task, completed=done, total=total, description=cell)
        self._log.show(cell, done, total)


def working(words: str) -> AbstractContextManager[object]:
    """Return a context manager that shows a spinner, words and the time elapsed, or log lines with the same."""
    from rich import progress as bars

    columns = (bars.SpinnerColumn(), plain_column(), bars.TimeElapsedColumn())
    shown = _progress(columns, transient=True)
    shown.add_task(words, total=None)
    return LogLines(words) if shown.disable else shown


def _say_kept(what: str) -> None:
    stderr().print(f"stopped; finished {what} are kept, and the same command resumes from them")
    interruption.told()


def _progress(columns: tuple[ProgressColumn, ...], transient: bool, hidden: bool = False) -> Progress:
    """Return a progress display, disabled if it is hidden or stderr is no terminal."""
    from rich.progress import Progress

    console = stderr()
    return Progress(*columns, console=console, transient=transient, disable=hidden or not console.is_terminal)
