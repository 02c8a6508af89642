"""Retraining: the first steps of the command in a manifest, run again where its training data can be had."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from batteries.cell.cell import Cell
from batteries.cell.manifest import TrainingPoint
from batteries.training.recipe import Recipe
from batteries.training.rerun import Readings, Rerun, reading_differences
from registry.catalog.figures import CheckFigure
from registry.checks.figures import flag
from registry.stores.store import Store
from registry.transfer.pull import load
from registry.viability.runner import Runner

NAME = "retrained"
SHOWN = 50  # steps between two reports of progress


def prepared(cell: Cell, registry: str | Path | Store | None, photos: Sequence[str | Path] = ()) -> Rerun:
    """Prepare to run the command in a cell's manifest again.

    Args:
        cell: Cell under test.
        registry: Registry of the cells that the run started from and learned from, if it did.
        photos: Folders or globs of the photographs that it was trained on.

    Raises:
        InputError: no such command (``NO_RECIPE``), or invalid options (``USAGE``).
        NotFoundError: training images that are neither there nor in this package (``NO_DATA``), or no cell to
            start or learn from.
    """
    recipe = Recipe.parse(cell.manifest.training.command)
    start, teacher = (load(one, registry=registry) if one else None for one in (recipe.start, recipe.teacher))
    return Rerun.of(cell.manifest, recipe, start, teacher, photos)


def retrained(runner: Runner, rerun: Rerun) -> CheckFigure:
    """Check that the first steps repeat the readings of the trajectory."""
    manifest = runner.cell.manifest
    threshold = "the recorded command repeats the first readings of the trajectory"
    wrong = rerun.contradictions(manifest)
    if not wrong:
        key = {"command": manifest.training.command, "data": rerun.source.facts.digest, "probe": runner.probe.digest}
        found = runner.cache.recall(Readings, key | {"plan": rerun.plan.model_dump(mode="json")}, lambda: _run(runner, rerun))
        wrong = [*reading_differences(manifest.training.trajectory, found)]
        claimed = [point for point in manifest.training.trajectory if point.step <= found.steps]
        if not wrong and not claimed:
            words = f"no reading in the first {found.steps} steps to compare with"
            return flag(NAME, None, threshold, words, decides=False)
    if wrong:
        return flag(NAME, False, threshold, f"the recorded command does not repeat: {'; '.join(map(str, wrong))}"[:2000])
    exactly = " to the last bit" if set(map(_bits, claimed)) <= set(map(_bits, found.points)) else ""
    words = f"the first {found.steps} steps of the recorded command repeat{exactly}; readings compared: {len(claimed)}"
    return flag(NAME, True, threshold, words)


def _bits(point: TrainingPoint) -> bytes:
    return point.to_bytes()


def _run(runner: Runner, rerun: Rerun) -> Readings:
    return rerun.run(runner.probe, [_Steps(runner, rerun.steps)])


class _Steps:
    """A watcher that reports steps as progress of the test."""

    def __init__(self, runner: Runner, steps: int) -> None:
        self._runner, self._steps = runner, steps

    def stepped(self, step: int, loss: float) -> None:
        if step % SHOWN == 0:
            runner = self._runner
            runner.progress(f"training again: step {step} of {self._steps}", runner.done, runner.parts)

    def read(self, point: TrainingPoint) -> None:
        """Ignore a reading; all are compared at the end."""
