"""Page of the read-out rounds: first nan or error of each, beside the published outcomes, and what becomes of magnitude."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pages import NONE, put, spread, table
from readout_rounds_jobs import CONTRAST, JOBS, PART, PROGRAM, Figures, Job, Result, Results

from batteries.ablation.program import Group, read_program
from batteries.data.sources import seed_of
from batteries.geometry import attractor
from batteries.measurement.baselines import baselines, fit

TITLE = "Four rounds of a linear read-out"
FITTED = 512  # images that the linear codes are fitted on
BLOWN_UP = 1e6  # error from which an evaluation is called a failure; that of an image of zeros is 1.9
PUBLISHED = {
    "plain": "nan near step 899",
    "norm": "3e11, then nan",
    "sphere": "finite, 2e11 in evaluation",
    "discipline": "never run",
}
PROGRAM_READ = read_program(PROGRAM)[0]
BASE = JOBS[0].run.plan


@dataclass(frozen=True)
class Runs:
    """Runs of one variant, over seeds.

    Attributes:
        group: Id of the group.
        variant: Name of the variant.
        results: Results that are known.
    """

    group: str
    variant: str
    results: Sequence[Result]

    @property
    def trained(self) -> list[Figures]:
        """Figures of the seeds that did not diverge."""
        return [result.trained for result in self.results if result.trained is not None]

    @property
    def first_nan(self) -> str:
        """Steps to the first loss that is not finite, by seed."""
        if not self.results:
            return NONE
        return ", ".join(str(result.steps) if result.diverged else "none" for result in self.results)

    @property
    def largest(self) -> str:
        """Largest error of a step over the seeds, with its step."""
        if not self.results:
            return NONE
        worst = max(self.results, key=lambda result: result.largest)
        return f"{worst.largest:.2g} at {worst.largest_at}"

    @property
    def reproduced(self) -> str:
        """Number of seeds with the published outcome."""
        if self.group != "rounds" or self.variant not in PUBLISHED or self.variant == "discipline" or not self.results:
            return NONE
        if self.variant == "sphere":
            found = [one.mse > BLOWN_UP for one in self.trained]
        else:
            found = [result.diverged is not None for result in self.results]
        return f"{sum(found)} of {len(self.results)}"

    def mean(self, figure: Callable[[Figures], float | None], digits: int = 3, *, untrained: bool = False) -> str:
        """Format mean and standard deviation of a figure over the seeds that have it."""
        all_figures = [result.untrained for result in self.results] if untrained else self.trained
        return spread([value for one in all_figures if (value := figure(one)) is not None], digits)


def write(found: Results, page: Path) -> None:
    """Write the tables between their comments; the rest of the page is edited by hand."""
    put(page, TITLE, "runs", report(found))


def report(found: Results) -> str:
    """Format the tables, and what is missing of them."""
    adam, *others = (_of(group, found) for group in PROGRAM_READ.groups)
    missing = [job.name for job in JOBS if job not in found]
    whole = f"Missing, {len(missing)} of {len(JOBS)}: {', '.join(missing)}." if missing else f"All {len(JOBS)} runs are here."
    setting = f"LOW preset (V {BASE.spec.V}, D {BASE.spec.D}), {BASE.steps} steps, published noise mix at {BASE.size} pixels"
    exact, long = f"{attractor.sphere_cv(BASE.spec.D):.5f}", _steps("discipline-long")
    return f"""Written by `python examples/readout_rounds.py`, which keeps the results in
[readout-rounds.jsonl](readout-rounds.jsonl). The runs are those of the program `{PROGRAM}`:
`batteries ablate {PROGRAM} --out FOLDER` does them with reports.
{setting}, {len(PROGRAM_READ.bands)} seeds.
Errors are on every fourth image of `{JOBS[0].run.probe.name}`, mean ± standard deviation over seeds.
{_linear_codes()}

### The rounds, under Adam

Adam {BASE.rate:g}, {BASE.schedule}, {BASE.batch} images a step.

{_rounds(adam)}

- *first nan*: step of the first loss that is not finite, by seed; *largest error*: of a training step, over all seeds.
- *reproduced*: seeds with the published outcome; for `sphere` an evaluation above {BLOWN_UP:g}.
- *M / exact*: axial CV of the rows of M over the exact {exact} of D = {BASE.spec.D}; *received / exact*: the
  same of the rows that the decoder receives, brought to unit length.
- `discipline`: the fourth round; `discipline-long`: the same over {long} steps. `svd`: the decomposition, at equal steps.
  `fixed`: `sphere` with the two matrices as at their random start, at equal steps.

### Where the clip acts

SGD with classical momentum 0.9, {BASE.schedule}, {BASE.batch} images a step, {_steps("plain-clip-1")} steps;
`plain` and `svd-adaptive` are clipped to max(error, 1), the others to 1.

{_clips([runs for group in others for runs in group])}

### What becomes of magnitude

{_magnitudes(adam)}

- *M_hat*: correlation, over the patches of these images, between the logarithms of the size (root mean square) of a patch and
  of the matrix that the decoder receives of it; *constant* where all such matrices have one size. *reconstruction*: the same
  with the size of its reconstruction. In brackets the cell before its first step.
- *error at {CONTRAST:g}*: mean squared error of images {CONTRAST:g} times as large, over that of an image of zeros.

{whole}"""


def _of(group: Group, found: Results) -> list[Runs]:
    def known(variant: str) -> list[Result]:
        return [found[job] for job in JOBS if (job.run.group, job.run.variant) == (group.id, variant) and job in found]

    return [Runs(group.id, variant, known(variant)) for variant in group.variants]


def _steps(variant: str) -> str:
    return f"{next(job for job in JOBS if job.run.variant == variant).run.plan.steps:,}"


def _rounds(every: Sequence[Runs]) -> str:
    head = (
        *("run", "published", "first nan", "reproduced", "largest error", "MSE", "untrained MSE"),
        *("M / exact", "received / exact"),
    )
    rows = [
        (
            runs.variant,
            PUBLISHED.get(runs.variant, NONE),
            runs.first_nan,
            runs.reproduced,
            runs.largest,
            runs.mean(lambda one: one.mse, 4),
            runs.mean(lambda one: one.mse, untrained=True),
            runs.mean(lambda one: one.M_ratio),
            runs.mean(lambda one: one.received_ratio),
        )
        for runs in every
    ]
    return table(head, rows)


def _clips(every: Sequence[Runs]) -> str:
    head = ("rate", "run", "clip", "first nan", "largest error", "MSE", "M / exact")
    rows = []
    for runs in every:
        plan = _job(runs).run.plan
        clip = f"max(error, {plan.clip:g})" if plan.adaptive_clip else f"{plan.clip:g}"
        figures = (runs.mean(lambda one: one.mse), runs.mean(lambda one: one.M_ratio))
        rows.append((f"{plan.rate:g}", runs.variant, clip, runs.first_nan, runs.largest, *figures))
    return table(head, rows)


def _magnitudes(every: Sequence[Runs]) -> str:
    rows = [
        (
            runs.variant,
            _beside(runs, lambda one: one.magnitude_received, "constant"),
            _beside(runs, lambda one: one.magnitude, "constant"),
            runs.mean(lambda one: one.contrasted, 4),
        )
        for runs in every
    ]
    return table(("run", "M_hat", "reconstruction", f"error at {CONTRAST:g}"), rows)


def _beside(runs: Runs, figure: Callable[[Figures], float | None], without: str) -> str:
    """Format a figure after training, and before in brackets."""
    after, before = runs.mean(figure), runs.mean(figure, untrained=True)
    if runs.trained and after == before == NONE:
        return without
    return f"{after} ({before})"


def _job(runs: Runs) -> Job:
    return next(job for job in JOBS if (job.run.group, job.run.variant) == (runs.group, runs.variant))


@cache
def _linear_codes() -> str:
    """Say the errors of the mean and of linear codes, of the width of the code and of the encoder."""
    images, probe = JOBS[0].run.source.batch(seed_of(0, 0), FITTED, BASE.size), JOBS[0].run.probe
    found = baselines(fit(images, BASE.spec), probe.images[::PART], BASE.spec)
    return (
        f"Linear codes fitted on {FITTED} images: PCA-{BASE.spec.D} {found.pca_width:.4f}, PCA-{found.pca_k} {found.pca:.4f}; "
        f"the mean patch {found.mean:.4f}."
    )
