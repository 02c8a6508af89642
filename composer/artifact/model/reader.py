"""Reader of the cells in a composed model's file: their weights, and a check against its lock. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from batteries.cell import weights_file
from batteries.errors import IntegrityError
from batteries.text import listed
from composer.artifact.model.document import Artifact, SavedCell
from composer.sealed.reader import Opened

if TYPE_CHECKING:
    import numpy as np


def weights(opened: Opened[Artifact]) -> Iterator[tuple[SavedCell, dict[str, np.ndarray]]]:
    """Yield every cell with its arrays, as views of the file, group by group."""
    for place, spec in enumerate(opened.document.groups):
        stacked = {name: opened.array(f"groups.{place}.{name}") for name in spec.tensor_shapes()}
        members = (cell for cell in opened.document.cells if cell.group == place)
        for row, cell in enumerate(members):
            yield cell, {name: array[row] for name, array in stacked.items()}


def check_lock(opened: Opened[Artifact], where: object) -> None:
    """Compare every cell's weights with its digest, which takes about as long as reading the file.

    Raises:
        IntegrityError: cells that differ from the lock (``TENSOR_DIGEST``).
    """
    other = [cell.name for cell, arrays in weights(opened) if weights_file.tensor_digest(arrays) != cell.tensors]
    if other:
        remedy = "The model's weights are not those of the cells it names; compose it again from them."
        raise IntegrityError(
            "cells differ from the lock", code="TENSOR_DIGEST", found=listed(other), where=where, remedy=remedy
        )
