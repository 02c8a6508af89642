"""Negative controls: cells of the same spec that the viability test must reject, each by a named check."""

from __future__ import annotations

from typing import Literal

from batteries import cellfile
from batteries.cell import Cell, file_facts
from batteries.model import arrays_of, untrained
from batteries.packaging import UNTRAINED_SEED

Control = Literal["untrained", "none", "scale"]

NAMED_CHECK: dict[Control, str] = {"untrained": "error, untrained", "none": "radius", "scale": "radius"}
CONTROLS: tuple[str, ...] = tuple(NAMED_CHECK)


def control_cell(cell: Cell, control: Control, seed: int = 0) -> Cell:
    """A cell of the same spec that must be rejected.

    Args:
        cell: The cell it stands beside.
        control: ``untrained``: fresh weights. ``none`` and ``scale``: the same weights, the rows of M not normalised, or
            divided by their mean length only.
        seed: Of fresh weights.
    """
    if control == "untrained":
        weights = arrays_of(untrained(cell.spec, UNTRAINED_SEED + seed))
        spec = cell.spec
    else:
        weights = dict(cell.weights)
        spec = cell.spec.model_copy(update={"row_norm": control})
    facts = file_facts(cellfile.write(weights), weights)
    return Cell(weights, cell.manifest.model_copy(update={"spec": spec, "file": facts}))
