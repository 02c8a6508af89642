"""Tables of the commands that run cells over images."""

from __future__ import annotations

from registry.answers.encoding import EncodeAnswer, ReconstructAnswer
from registry.reports.figures import number
from registry.reports.fitted_table import FittedTable
from registry.reports.tables import NOTHING


def encoded(answer: EncodeAnswer) -> FittedTable:
    """Return one row for every cell: its patches and the width of its tokens."""
    table = FittedTable("cell", "version", "V x D", "patch", "rows", optional=["version", "patch"])
    for cell in answer.record.cells:
        table.add_row(cell.name, cell.version, f"{cell.V} x {cell.D}", str(cell.patch_size), str(cell.rows))
    return table


def reconstructed(answer: ReconstructAnswer) -> FittedTable:
    """Return one row for every image: the error of every cell."""
    names = list(answer.images[0].errors)
    columns = [f"MSE {name}" for name in names]
    table = FittedTable("image", "size", *columns, optional=["size", *reversed(columns[1:])], wrapping=["image"])
    for image in answer.images:
        errors = [NOTHING if error is None else number(error) for error in image.errors.values()]
        table.add_row(image.name, f"{image.framed[0]} x {image.framed[1]}", *errors)
    return table
