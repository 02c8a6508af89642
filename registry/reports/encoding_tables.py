"""Tables of the commands that run cells over images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.answers.encoding import EncodeAnswer, ReconstructAnswer
from registry.reports.summaries import plain_table
from registry.reports.tables import NOTHING

if TYPE_CHECKING:
    from rich.table import Table


def encoded(answer: EncodeAnswer) -> Table:
    """Return one row for every cell: its patches and the width of its tokens."""
    table = plain_table("cell", "version", "V x D", "patch", "rows")
    for cell in answer.record.cells:
        table.add_row(cell.name, cell.version, f"{cell.V} x {cell.D}", str(cell.patch_size), str(cell.rows))
    return table


def reconstructed(answer: ReconstructAnswer) -> Table:
    """Return one row for every image: the error of every cell."""
    names = list(answer.images[0].errors)
    table = plain_table("image", "size", *(f"MSE {name}" for name in names))
    for image in answer.images:
        errors = [NOTHING if error is None else f"{error:.4g}" for error in image.errors.values()]
        table.add_row(image.name, f"{image.framed[0]} x {image.framed[1]}", *errors)
    return table
