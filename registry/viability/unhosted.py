"""Checks of a cell or a control that need no host, and the check that must reject a control."""

from __future__ import annotations

import numpy as np

from batteries.cell.cell import Cell
from batteries.measurement.measure import Reading
from batteries.model.patch_svae import PatchSVAE
from registry.catalog.figures import CheckFigure, ReadOutFigure
from registry.checks import cell_checks, content_checks
from registry.checks.claims import Reference
from registry.checks.protocol import Control
from registry.viability.controls import control_cell, control_model
from registry.viability.runner import NullFigures, Runner, measurement

CONTROL_SEED = 100  # distinct from the seeds of the null


def unhosted(
    runner: Runner, cell: Cell, model: PatchSVAE, reading: Reading, null: NullFigures, reference: Reference | None = None
) -> tuple[list[CheckFigure], tuple[ReadOutFigure, ...]]:
    """Make all checks that need no host; of a model that is not finite, only that one.

    Args:
        runner: Parts of the test.
        cell: Cell under test, or a control.
        model: Model of the cell or control.
        reading: Reading of the model on the own probe.
        null: Figures of untrained cells.
        reference: Error and CV that the cell must have; by default those in its manifest.
    """
    found = _standing(runner, cell, reading, null, reference)
    if not found[0].passed:
        return found, ()
    readouts = runner.readouts(model)
    return found + _content(runner, model, reading, readouts, null), readouts


def _standing(
    runner: Runner, cell: Cell, reading: Reading, null: NullFigures, reference: Reference | None = None
) -> list[CheckFigure]:
    """Check what needs one pass over the own probe."""
    found = measurement(reading, runner.probe)
    if not found.finite:
        return [cell_checks.finite(False)]
    content = content_checks.content(reading, runner.probe)
    return [
        cell_checks.finite(True),
        *cell_checks.standing(found, cell.manifest, null.mse, runner.protocol, reference=reference),
        *content_checks.of_content(content, cell.spec.V, runner.protocol),
    ]


def _content(
    runner: Runner, model: PatchSVAE, reading: Reading, readouts: tuple[ReadOutFigure, ...], null: NullFigures
) -> list[CheckFigure]:
    """Check the error on mirror images, and what M and omega carry."""
    read = [content_checks.of_readout(figure, null.readouts, runner.protocol) for figure in readouts]
    return [_mirrored(runner, model, reading), *read]


def _mirrored(runner: Runner, model: PatchSVAE, reading: Reading) -> CheckFigure:
    found = content_checks.mirrored(model, runner.probe, reading)
    return content_checks.of_mirrored(found, runner.protocol)


def named_check(runner: Runner, control: Control, named: str, null: NullFigures, reference: Reference) -> CheckFigure:
    """Make a control's named check; one that is not finite fails that first."""
    seed = runner.seed + CONTROL_SEED
    subject = control_cell(runner.cell, control, seed, runner.own_images.train[0])
    if not finite(subject):
        return cell_checks.finite(False)
    model = control_model(subject, control, seed, runner.probe)
    reading = runner.read(model)
    if named == "error, mirrored":
        return _mirrored(runner, model, reading)
    if named.startswith("read-out"):
        found = _content(runner, model, reading, runner.readouts(model), null)
    else:
        found = _standing(runner, subject, reading, null, reference)
    return next((check for check in found if check.name == named), found[0])


def finite(cell: Cell) -> bool:
    """Return whether all weights are finite."""
    return all(np.isfinite(array).all() for array in cell.weights.values())
