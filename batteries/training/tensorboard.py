"""TensorBoard events of a run. Requires the ``tensorboard`` extra."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from batteries.cell.manifest import TrainingPoint
from batteries.errors import InputError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Events:
    """Watcher that writes loss, MSE and both CVs as TensorBoard events.

    The event file is made at the first step and says which one it is, so that a reader of the folder leaves out what an earlier
    sitting of the run, which was killed, wrote from there on. A folder is that of one run.

    Args:
        folder: Folder of the event files.

    Raises:
        InputError: extra missing or not working (``EXTRA``).

    >>> import pathlib
    >>> import batteries
    >>> events = batteries.Events(pathlib.Path("runs"))
    >>> events.stepped(1, loss=0.9)  # or batteries.train(..., watchers=[events])
    >>> events.close()
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except Exception as error:  # a broken one may raise any exception
            missing = isinstance(error, ModuleNotFoundError)
            raise InputError(
                "TensorBoard is not installed" if missing else "TensorBoard is installed but cannot be imported",
                code="EXTRA",
                found=None if missing else repr(error),
                remedy="pip install 'svae-batteries[tensorboard]'",
            ) from error
        self._make, self._folder = SummaryWriter, folder
        self._writer: SummaryWriter | None = None

    def __repr__(self) -> str:
        return f"Events({str(self._folder)!r})"

    def stepped(self, step: int, loss: float) -> None:
        """Log the training loss."""
        self._from(step).add_scalar("loss", loss, step)

    def read(self, point: TrainingPoint) -> None:
        """Log a reading of the trajectory, and flush."""
        writer = self._from(point.step)
        writer.add_scalar("probe/mse", point.mse, point.step)
        if point.cv is not None:
            writer.add_scalar("probe/cv", point.cv, point.step)
        if point.axial_cv is not None:
            writer.add_scalar("probe/axial_cv", point.axial_cv, point.step)
        writer.flush()

    def scalars(self, step: int, values: Mapping[str, float], *, flush: bool = False) -> None:
        """Log numbers of a step by name.

        Args:
            step: Step.
            values: Numbers by the name of their chart.
            flush: Whether to write them at once.
        """
        writer = self._from(step)
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        if flush:
            writer.flush()

    def close(self) -> None:
        """Close the event file, if there is one."""
        if self._writer is not None:
            self._writer.close()

    def _from(self, step: int) -> SummaryWriter:
        """Return the writer, made if this is the first step of the sitting."""
        if self._writer is None:
            self._writer = self._make(str(self._folder), purge_step=step)
        return self._writer
