"""The viability test: does a cell carry something, and does its attractor hold in a host, frozen and under its gradient?

A CV in its band separates nothing: untrained cells sit on the attractor already. What a verdict rests on is error and
accuracy against untrained cells, row radius, rank, and whether CV and rank hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from batteries.cell import SUFFIX, Cell
from batteries.errors import InputError
from batteries.geometry import Estimate
from batteries.manifest import InputScale
from batteries.measure import read
from batteries.model import PatchSVAE
from batteries.probes import Probe, probe
from registry import checks
from registry.attestation import Attestation, CheckFigure, ControlFigure, Verdict
from registry.checks import Measurement, Null
from registry.controls import CONTROLS, NAMED_CHECK, Control, control_cell
from registry.protocol import FIRST, ViabilityProtocol
from registry.pull import pull
from registry.stores import Store
from registry.tasks import Task, own_task
from registry.trials import frozen_trial, unfrozen_trial

CONTROL_SEED = 100  # far from the seeds of the null

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    """What the viability test found.

    Attributes:
        attestation: Every figure, as it can be published beside the cell.
    """

    attestation: Attestation

    @property
    def verdict(self) -> Verdict:
        """*viable*, *walked back*, or *no verdict* where a control was not rejected."""
        return self.attestation.verdict

    @property
    def checks(self) -> tuple[CheckFigure, ...]:
        """All checks, in the order they ran."""
        return self.attestation.checks

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the deciding checks that did not pass."""
        return tuple(check.name for check in self.checks if check.decides and not check.passed)


def validate(
    target: str | Path | Cell,
    *,
    registry: str | Store | None = None,
    control: Control | None = None,
    protocol: ViabilityProtocol = FIRST,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Report:
    """Run the viability test on a cell.

    Args:
        target: A reference, the path of a cell file, or a cell.
        registry: Where a reference is looked up.
        control: Try this negative control of the cell's spec in its place; it must be walked back.
        protocol: Its numbers.
        seed: Of everything random.
        progress: Told in words what is being done.

    Raises:
        NotFoundError: no such cell or file.
        InputError: no such control, or a cell that the test's images do not fit.
        BatteriesError: as :func:`registry.pull` or :meth:`batteries.Cell.read`.
    """
    if control is not None and control not in CONTROLS:
        raise InputError("no such control", code="CONTROL", expected=" | ".join(CONTROLS), found=control)
    cell = _resolve(target, registry)
    _refuse_input(cell)
    subject = control_cell(cell, control, seed + CONTROL_SEED) if control else cell
    if not all(np.isfinite(array).all() for array in subject.weights.values()):
        return _report(subject, [checks.finite(False)], (), protocol, seed, {}, control)
    own = probe(subject.manifest.own_probe)
    task = own_task(own.domain, protocol.size, protocol.train, protocol.test, seed)
    progress("untrained cells of the same spec")
    null, null_figures = _null(cell, own, task, protocol, seed)
    progress("controls")
    controls = () if control else _controls(cell, own, task, null, protocol, seed)
    progress("the cell on its own probe")
    found = _standing(subject, own, null, protocol)
    if not found[0].passed:
        return _report(subject, found, controls, protocol, seed, null_figures, control)
    progress("in a host, frozen")
    frozen = frozen_trial(subject, task, protocol, seed)
    found += checks.hosted(frozen, len(task.test[0]), own.domain, null, protocol)
    progress("in a host, unfrozen")
    dosed = unfrozen_trial(subject, task, protocol, own, seed)
    found += checks.dosed(dosed, protocol)
    figures = null_figures | {
        "frozen accuracy": frozen.accuracy,
        "unfrozen accuracy": dosed.accuracy,
        "unfrozen weight change": dosed.weight_change,
        "dose": protocol.dose_rate * protocol.dose_steps,
    }
    return _report(subject, found, controls, protocol, seed, figures, control)


def _resolve(target: str | Path | Cell, registry: str | Store | None) -> Cell:
    if isinstance(target, Cell):
        return target
    if isinstance(target, Path) or target.endswith(SUFFIX):
        return Cell.read(target)
    return pull(target, registry=registry)[0]


def _refuse_input(cell: Cell) -> None:
    """The test's images have three channels and are not normalised further."""
    if cell.spec.channels != 3 or cell.manifest.identity.input != InputScale():
        raise InputError(
            "a cell that the test's images do not fit",
            code="CELL_INPUT",
            expected="3 channels, mean 0 and standard deviation 1 of the plain scale",
            found=f"{cell.spec.channels} channels, {cell.manifest.identity.input}",
            where=cell.name,
        )


def _measurement(cell: Cell, own: Probe) -> Measurement:
    reading = read(PatchSVAE.from_cell(cell), own.images, own.cluster)
    mean = own.images.mean(dim=(0, 2, 3), keepdim=True)
    return Measurement(
        finite=bool(torch.isfinite(reading.mse).all()),
        radius_error=reading.radius_error,
        cv=reading.cv(),
        rank=reading.effective_rank(),
        mse=reading.error(),
        mean_baseline=float((own.images - mean).double().square().mean()),
    )


def _standing(cell: Cell, own: Probe, null: Null, protocol: ViabilityProtocol) -> list[CheckFigure]:
    found = _measurement(cell, own)
    if not found.finite:
        return [checks.finite(False)]
    return [checks.finite(True), *checks.standing(found, cell.manifest, null, protocol)]


def _null(cell: Cell, own: Probe, task: Task, protocol: ViabilityProtocol, seed: int) -> tuple[Null, dict[str, float]]:
    fresh = [control_cell(cell, "untrained", seed + i) for i in range(protocol.untrained)]
    found = [_measurement(f, own) for f in fresh]
    accuracy = tuple(frozen_trial(f, task, protocol, seed).accuracy for f in fresh)
    cvs = [m.cv.value for m in found if isinstance(m.cv, Estimate)]
    null = Null(tuple(m.mse.value for m in found), accuracy, sum(cvs) / len(cvs) if cvs else float("nan"))
    figures = {
        "untrained accuracy": sum(accuracy) / len(accuracy),
        "untrained MSE": sum(null.mse) / len(null.mse),
        "chance": 1 / task.classes,
    }
    return null, figures | ({"untrained CV": null.cv} if cvs else {})


def _controls(
    cell: Cell, own: Probe, task: Task, null: Null, protocol: ViabilityProtocol, seed: int
) -> tuple[ControlFigure, ...]:
    """Each control against its named check; the untrained one against the accuracy lift too, where that decides."""
    rows = []
    if own.domain in protocol.lift_decides:
        fresh = control_cell(cell, "untrained", seed + CONTROL_SEED)
        accuracy = frozen_trial(fresh, task, protocol, seed).accuracy
        lift = checks.accuracy_lift(accuracy, len(task.test[0]), own.domain, null, protocol)
        rows.append(ControlFigure(name="untrained", rejected=lift.passed is False, by=lift.name))
    for control, named in NAMED_CHECK.items():
        standing = _standing(control_cell(cell, control, seed + CONTROL_SEED), own, null, protocol)
        check = next((check for check in standing if check.name == named), standing[0])  # one that is not finite stops there
        rows.append(ControlFigure(name=control, rejected=check.passed is False, by=check.name))
    return tuple(rows)


def _report(
    cell: Cell,
    found: list[CheckFigure],
    controls: tuple[ControlFigure, ...],
    protocol: ViabilityProtocol,
    seed: int,
    figures: dict[str, float],
    control: Control | None,
) -> Report:
    passed = all(check.passed for check in found if check.decides)
    sound = all(control.rejected for control in controls)
    verdict: Verdict = "no verdict" if not sound else "viable" if passed else "walked back"
    return Report(
        Attestation(
            cell=cell.digest,
            reference=f"{cell.name}@{cell.version}",
            protocol=protocol.name,
            protocol_digest=protocol.digest,
            control=control,
            verdict=verdict,
            checks=tuple(found),
            controls=controls,
            figures=figures,
            package=version("svae-batteries"),
            torch=torch.__version__,
            seed=seed,
        )
    )
