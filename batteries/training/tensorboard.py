"""TensorBoard events of a run; needs the ``tensorboard`` extra."""

from __future__ import annotations

from pathlib import Path

from batteries.cell.manifest import TrainingPoint
from batteries.errors import InputError


class Events:
    """A watcher that writes loss, MSE and CV as TensorBoard events.

    Args:
        folder: Where the event file goes.

    Raises:
        InputError: the extra is not installed, or does not work (``EXTRA``).
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except Exception as error:  # one that is broken raises anything
            missing = isinstance(error, ModuleNotFoundError)
            raise InputError(
                "TensorBoard is not installed" if missing else "TensorBoard is installed and cannot be imported",
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
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()
