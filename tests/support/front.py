"""The modules of examples/front.py, and results of its runs made by hand."""

import sys

from batteries.cell.manifest import TrainingPoint
from batteries.cell.spec import PRESETS
from batteries.geometry import attractor
from tests.support.examples import example

front = example("front")
jobs, content, page, pictures = (sys.modules[f"front_{name}"] for name in ("jobs", "content", "page", "pictures"))
training = sys.modules["run_training"]

LOSSES = training.Losses(M=0.4, omega=0.5), training.Losses(M=0.5, omega=0.8)
CONTENT = jobs.Content(spread=0.02, losses=LOSSES[0], untrained=LOSSES[1], worth=1.5)


def named(name):
    return jobs.NAMED[name]


def result(job, end=(1.04, 0.5), **fields):
    """A run whose ratio goes from 1 to that of ``end`` and whose error falls to that of ``end``."""
    exact, points = attractor.sphere_cv(PRESETS[job.setting.band]["D"]), []
    for step in () if fields.get("diverged") else range(jobs.EVERY, jobs.STEPS + 1, jobs.EVERY):
        share = step / jobs.STEPS
        cv = None if end[0] is None else exact * (1 + share * (end[0] - 1))
        error = None if cv is None else 0.002
        points.append(TrainingPoint(step=step, mse=end[1] / share, cv=cv, cv_standard_error=error))
    own = {"name": job.name, "plan": job.plan_digest, "data": "0" * 64, "trajectory": tuple(points)}
    return jobs.Result(**own | fields)


def put(store, results):
    for job, found in results.items():
        store.write(job, found)


def some_results():
    """Two results each of a setting of LOW and HIGH, one of them off the attractor."""
    return {
        named("low-noise-adam-0.003-1"): result(named("low-noise-adam-0.003-1"), (1.0, 0.5), step_seconds=0.05),
        named("low-noise-adam-0.003-2"): result(named("low-noise-adam-0.003-2"), (1.1, 0.7), content=CONTENT),
        named("high-photos-muon-0.04-1"): result(named("high-photos-muon-0.04-1"), (1.2, 0.01)),
        named("high-photos-muon-0.04-3"): result(named("high-photos-muon-0.04-3"), (1.4, 0.02)),
    }
