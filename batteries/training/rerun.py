"""First steps of a recorded run, run again, and their readings against those of the manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batteries.cell.cell import Cell
from batteries.cell.manifest import DataSource, Manifest, TrainingPoint
from batteries.data.photos import read_photos
from batteries.data.probes import Probe, photographs
from batteries.data.sources import Source
from batteries.errors import InputError, NotFoundError
from batteries.io.canonical_json import Document
from batteries.measurement.differences import Difference, cv_tolerance
from batteries.training.plan import Plan
from batteries.training.recipe import Recipe
from batteries.training.trainer import Watcher, train

STEPS = 1000  # up to tier 1
# Largest relative change of a reading's error on another machine. Rounding grows along a run: with the compiled kernels and
# without them, the readings of 1,000 steps (`batteries train high/x --steps 1250 --noise --batch 4 --size 32 --rate 0.003`)
# differed by at most 5.4% in the error, and by 0.09 standard errors in the CV.
MSE = 0.25


class Readings(Document):
    """Readings of the first steps of a run.

    Attributes:
        steps: Steps run again.
        points: Readings, the last one at that step.
    """

    steps: int
    points: tuple[TrainingPoint, ...]


@dataclass(frozen=True)
class Rerun:
    """A recorded run that can be run again.

    Attributes:
        recipe: Options of its command.
        plan: Plan that they make.
        source: Training data, with the digest in the manifest.
        start: Cell that the run started from.
        teacher: Cell that taught the run.
    """

    recipe: Recipe
    plan: Plan
    source: Source
    start: Cell | None
    teacher: Cell | None = None

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        recipe: Recipe,
        start: Cell | None,
        teacher: Cell | None = None,
        photos: Sequence[str | Path] = (),
    ) -> Rerun:
        """Prepare the run of a manifest.

        Args:
            manifest: Manifest of the cell.
            recipe: Recipe in its command.
            start: Cell that the recipe starts from.
            teacher: Cell that the recipe learns from.
            photos: Folders or globs of its photographs. The places in its command are never read: another wrote them.

        Raises:
            NotFoundError: training images that are neither there nor in this package (``NO_DATA``).
            InputError: as :meth:`Recipe.plan`.
        """
        plan = recipe.plan(start.digest if start else None, teacher.digest if teacher else None)
        return cls(recipe, plan, _source(recipe, manifest.training.data, photos), start, teacher)

    @property
    def steps(self) -> int:
        """Number of steps to run again."""
        return min(STEPS, self.plan.steps)

    def run(self, own_probe: Probe | str, watchers: Sequence[Watcher] = ()) -> Readings:
        """Run the first steps again.

        Args:
            own_probe: Probe that the readings are made on, or its name.
            watchers: Observers of every step and reading.

        Raises:
            PolicyError: training diverged, or images that overlap with a probe.
        """
        allowed = self.recipe.allow_probe_photos
        run = train(
            self.plan,
            self.source,
            own_probe,
            start=self.start,
            teacher=self.teacher,
            until=self.steps,
            allow_probe_photos=allowed,
            watchers=watchers,
        )
        return Readings(steps=run.step, points=tuple(run.trajectory))

    def contradictions(self, manifest: Manifest) -> list[Difference]:
        """Compare the facts in a manifest with those of its own command."""
        training, plan = manifest.training, self.plan
        pairs = {
            "spec": (manifest.spec, plan.spec),
            "steps": (training.steps, plan.steps),
            "batch": (training.batch, plan.batch),
            "size": (training.size, plan.size),
            "seed": (training.seed, plan.seed),
            "optimiser, schedule, soft hand": (
                (training.optimiser, training.schedule, training.soft_hand),
                plan.describe(),
            ),
        }
        return [Difference(f"{name} of the command", *pair, "none") for name, pair in pairs.items() if pair[0] != pair[1]]


def reading_differences(claimed: Sequence[TrainingPoint], found: Readings) -> Iterator[Difference]:
    """Compare the readings of a trajectory, up to the step run again, with the same ones read again."""
    again = {point.step: point for point in found.points}
    for point in claimed:
        if point.step <= found.steps:
            yield from _differences(point, again.get(point.step))


def _differences(claimed: TrainingPoint, found: TrainingPoint | None) -> Iterator[Difference]:
    at = f"at step {claimed.step}"
    if found is None:
        yield Difference(f"reading {at}", "one", "none", "none")
        return
    if not abs(claimed.mse - found.mse) <= MSE * found.mse:
        yield Difference(f"MSE {at}", claimed.mse, found.mse, f"{MSE * found.mse:.2g}")
    if claimed.cv is None or found.cv is None:
        if claimed.cv != found.cv:
            yield Difference(f"CV {at}", claimed.cv, found.cv, "none")
    elif not abs(claimed.cv - found.cv) <= (most := cv_tolerance(found.cv, found.cv_standard_error)):
        yield Difference(f"CV {at}", claimed.cv, found.cv, f"{most:.2g}")


def _source(recipe: Recipe, recorded: DataSource, photos: Sequence[str | Path]) -> Source:
    """Return the training data of a recipe, if it is there: generated, at the places given, or bundled."""
    bundled = photographs()[0].parent
    found = []
    for places in [()] if recipe.noise else filter(None, [tuple(photos), (bundled,)]):
        try:
            source = recipe.source(read_photos(*places) if places else None)
        except (InputError, NotFoundError) as error:
            found.append(str(error.code))
            continue
        if source.facts.digest == recorded.digest:
            return source
        found.append(f"sha256:{source.facts.digest}")
    raise NotFoundError(
        "training images not on this machine",
        code="NO_DATA",
        expected=f"sha256:{recorded.digest}",
        found=", ".join(found),
        where=", ".join(recipe.photos)[:200] or "generated noise",
        remedy="Name the photographs with --photos; their source, and where the command read them, is in the manifest.",
    )
