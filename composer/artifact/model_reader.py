"""The bytes of a composed model: a sealed file of weights stacked by spec, maps and routers. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from batteries.cell import weights_file
from batteries.errors import IntegrityError
from batteries.io.atomic_files import Data
from batteries.io.text import listed
from composer.artifact.model_document import Artifact, SavedCell
from composer.sealed.reader import Opened, open_sealed, read_document

if TYPE_CHECKING:
    import numpy as np


def open_artifact(data: Data, *, where: object, seal: str | None = None, lock: bool = True) -> Opened[Artifact]:
    """A whole file, every byte of it compared with the seal's word.

    Args:
        data: The file.
        where: What it is, for the message.
        seal: What somebody promised; left out, the file's own is believed.
        lock: Whether every cell's weights are compared with its own digest too, which takes about as long again.

    Raises:
        IntegrityError: cells that are not those of the lock (``TENSOR_DIGEST``).
        BatteriesError: as :func:`composer.sealed.reader.open_sealed`.
    """
    opened = open_sealed(Artifact, data, where=where, seal=seal)
    if lock:
        _check_lock(opened, where)
    return opened


def read_artifact(path: str | Path) -> Artifact:
    """What a model's file says of itself; the weights are not looked at.

    Raises:
        BatteriesError: as :func:`composer.load`, but for what only the weights tell.
    """
    return read_document(Artifact, path)


def weights(opened: Opened[Artifact]) -> Iterator[tuple[SavedCell, dict[str, np.ndarray]]]:
    """Every cell with its arrays, views of the file, group by group."""
    for place, spec in enumerate(opened.document.groups):
        stacked = {name: opened.array(f"groups.{place}.{name}") for name in spec.tensor_shapes()}
        members = (cell for cell in opened.document.cells if cell.group == place)
        for row, cell in enumerate(members):
            yield cell, {name: array[row] for name, array in stacked.items()}


def _check_lock(opened: Opened[Artifact], where: object) -> None:
    """Every cell's weights, against its digest."""
    other = [cell.name for cell, arrays in weights(opened) if weights_file.tensor_digest(arrays) != cell.tensors]
    if other:
        remedy = "The model is not of the cells that it names; compose it again from them."
        raise IntegrityError(
            "cells that are not those of the lock", code="TENSOR_DIGEST", found=listed(other), where=where, remedy=remedy
        )
