"""TensorBoard events of the training of a battery VAE. Requires the ``tensorboard`` extra."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from batteries.training.tensorboard import Events
from composer.vae.reading_document import VaeReading
from composer.vae.training import StepTerms


class VaeEvents:
    """Watcher that writes the terms of every step, and all figures of every reading, as TensorBoard events.

    Args:
        folder: Folder of the event files, of one run.

    Raises:
        InputError: extra missing or not working (``EXTRA``).

    >>> import pathlib
    >>> from composer import vae
    >>> events = vae.VaeEvents(pathlib.Path("runs"))
    >>> events.stepped(1, vae.StepTerms(loss=0.9, mse=0.8, divergence=9.0, discipline=0.01, gradient=0.2))
    >>> events.close()
    """

    def __init__(self, folder: Path) -> None:
        self._events = Events(folder)

    def __repr__(self) -> str:
        return f"VaeEvents({self._events!r})"

    def stepped(self, step: int, found: StepTerms) -> None:
        """Log the terms of a step, the reconstruction and the divergence apart."""
        self._events.scalars(step, asdict(found))

    def read(self, reading: VaeReading) -> None:
        """Log a reading, and flush."""
        self._events.scalars(reading.step, reading.scalars, flush=True)

    def close(self) -> None:
        """Close the event file, if there is one."""
        self._events.close()
