"""Derive a verdict and its summary in sentences from the figures of a test."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

import torch

from batteries import __version__
from batteries.cell.cell import Cell
from batteries.geometry import attractor
from registry.catalog.attestation import Attestation, Verdict
from registry.catalog.check_names import HOST_AUDIT
from registry.catalog.figures import CheckFigure, ControlFigure, DoseFigure, FrozenFigure, ReadOutFigure, ReturnFigure
from registry.checks.claims import History
from registry.checks.content_checks import OMEGA_CHECKS
from registry.checks.figures import within
from registry.checks.protocol import Control, ViabilityProtocol
from registry.viability.runner import NO_TRIALS, NullFigures, Runner, Trials


def attestation(
    runner: Runner,
    found: Sequence[CheckFigure],
    controls: tuple[ControlFigure, ...] = (),
    *,
    null: NullFigures | None = None,
    trials: Trials = NO_TRIALS,
    readouts: tuple[ReadOutFigure, ...] = (),
    control: Control | None = None,
) -> Attestation:
    """Assemble the attestation of a test, with its verdict."""
    cell, p = runner.cell, runner.protocol
    frozen, doses, returns = trials.frozen, trials.doses, trials.returns
    return Attestation(
        cell=cell.digest,
        reference=f"{cell.name}@{cell.version}",
        D=cell.spec.D,
        attractor=attractor.sphere_cv(cell.spec.D) if cell.spec.D >= attractor.SIMPLEX else None,
        probe=runner.probe.name,
        protocol=p.name,
        protocol_digest=p.digest,
        control=control,
        verdict=decided(found, controls),
        words=(*_words(found, null, frozen, doses, returns, p), *_history_words(found, cell)),
        checks=tuple(found),
        controls=controls,
        trajectory=cell.manifest.training.trajectory,
        frozen=(*frozen, *(null.frozen if null else ())),
        doses=(*doses, *(null.doses if null and doses else ())),
        returns=returns,
        readouts=(*readouts, *(null.readouts if null else ())),
        reference_rate=p.reference_rate,
        figures=_figures(null, doses, p),
        package=__version__,
        torch=torch.__version__,
        seed=runner.seed,
    )


def decided(found: Sequence[CheckFigure], controls: Sequence[ControlFigure]) -> Verdict:
    """Return the verdict.

    *Viable* needs every deciding check to pass. Such a conjunction needs no correction for the number of checks: its error rate
    is at most that of its weakest check (Berger 1982, intersection-union tests). A control that is not rejected shows that
    checks pass too easily, and a host whose gradient is walked back does nothing to a cell that another host would: then
    nothing is viable, but a check that did not pass still counts.
    """
    failed = {check.name for check in found if check.decides and not check.passed}
    if failed - OMEGA_CHECKS - {HOST_AUDIT}:
        return "walked back"
    if HOST_AUDIT in failed or not all(control.rejected for control in controls):
        return "no verdict"
    return "viable as a reconstructor" if failed else "viable"


def holding_rate(doses: Sequence[DoseFigure], p: ViabilityProtocol) -> float | None:
    """Return the largest rate up to which all trials held axial CV, rank and content; None if there is none."""
    held = None
    for rate in p.dose_rates:
        at = [dose for dose in doses if dose.rate == rate]
        if not at or not all(within(d.axial_cv) and within(d.rank) and d.kept >= p.kept.value for d in at):
            break
        held = rate
    return held


def _figures(null: NullFigures | None, doses: Sequence[DoseFigure], p: ViabilityProtocol) -> dict[str, float]:
    figures: dict[str, float] = {}
    if null:
        figures["untrained MSE"] = mean(null.mse)
        if null.cv:
            figures["untrained CV"] = mean(null.cv)
        if null.axial_cv:
            figures["untrained axial CV"] = mean(null.axial_cv)
    at = [dose for dose in doses if dose.rate == p.reference_rate]
    if at:
        held = holding_rate(doses, p)
        figures |= {"reference dose": p.reference_rate * p.dose_steps, "holding dose": (held or 0.0) * p.dose_steps}
        figures["weight change at the reference dose"] = mean(dose.weight_change for dose in at)
        figures["retention at the reference dose"] = mean(dose.retention for dose in at)
    return figures


def _words(
    found: Sequence[CheckFigure],
    null: NullFigures | None,
    frozen: Sequence[FrozenFigure],
    doses: Sequence[DoseFigure],
    returns: Sequence[ReturnFigure],
    p: ViabilityProtocol,
) -> list[str]:
    words = []
    by_name = {check.name: check for check in found}
    if any(check.name in OMEGA_CHECKS and not check.passed for check in found):
        words.append("Omega carries nothing here: read-outs of it do no better than those of untrained cells.")
    band, error = by_name.get("band"), by_name.get("error, untrained")
    if null and null.axial_cv and band and band.value is not None:
        words.append(
            f"Axial CV does not separate a trained cell from an untrained one: this cell's is {band.value:.4f}, that of "
            f"{len(null.axial_cv)} untrained cells of its spec {min(null.axial_cv):.4f} to {max(null.axial_cv):.4f}."
        )
    if null and error and error.value is not None:
        words.append(f"What separates them: its reconstruction error is {error.value:.3g} times theirs.")
    for task in dict.fromkeys(trial.task for trial in frozen):
        ours, theirs = ([t.score for t in part if t.task == task] for part in (frozen, null.frozen if null else ()))
        words.append(f"To {task}, a host scores {mean(ours):.3f} around it and {mean(theirs):.3f} around untrained cells.")
    if doses:
        held = holding_rate(doses, p)
        words.append(
            f"Under its host's gradient, {p.dose_steps} steps, it holds up to a rate of {held:g}."
            if held
            else f"Under its host's gradient, {p.dose_steps} steps, it holds at none of the rates tried."
        )
    words += [_return_words(back) for back in returns]
    return words


def _history_words(found: Sequence[CheckFigure], cell: Cell) -> list[str]:
    """Say which tiers rest on claims, if they were looked at, and whether the first steps repeat, if they were run again."""
    names = {check.name: check for check in found}
    words = History.of(cell.manifest).words() if "history" in names else []
    again = names.get("retrained")
    return [*words, f"{again.reason[0].upper()}{again.reason[1:]}."] if again else words


def _return_words(back: ReturnFigure) -> str:
    who = "It" if back.subject == "cell" else "An untrained cell"
    if back.steps is None:
        return f"{who} does not come back from the largest dose within {back.limit} steps of reconstruction training."
    return f"{who} comes back from the largest dose in {back.steps} steps of reconstruction training."
