"""TensorBoard events of a run. Requires the ``tensorboard`` extra."""

from __future__ import annotations

from pathlib import Path

from batteries.cell.manifest import TrainingPoint
from batteries.errors import InputError


class Events:
    """Watcher that writes loss, MSE and both CVs as TensorBoard events.

    Args:
        folder: Folder of the event file.

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
        self._writer = SummaryWriter(str(folder))

    def __repr__(self) -> str:
        return f"Events({self._writer.log_dir!r})"

    def stepped(self, step: int, loss: float) -> None:
        """Log the training loss."""
        self._writer.add_scalar("loss", loss, step)

    def read(self, point: TrainingPoint) -> None:
        """Log a reading of the trajectory, and flush."""
        self._writer.add_scalar("probe/mse", point.mse, point.step)
        if point.cv is not None:
            self._writer.add_scalar("probe/cv", point.cv, point.step)
        if point.axial_cv is not None:
            self._writer.add_scalar("probe/axial_cv", point.axial_cv, point.step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()
