"""Triage run of a LOW cell, 1,000 steps of 128 noise images: data, soft hand and step, against a plain loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

import torch

from batteries import CellSpec, NoiseSource, Plan, probe, train
from batteries.data.prefetch import ahead
from batteries.data.sources import seed_of
from batteries.geometry import simplex_cv
from batteries.training.soft_hand import DRAWS
from batteries.training.step import take_step
from benchmarks.harness import Pair
from benchmarks.plain import plain, plain_step
from benchmarks.step import ours

STEPS = 1000
STRETCH = 25  # steps of one timed stretch


def pairs(smoke: bool) -> list[Pair]:
    """Return stretches of 25 steps of the run."""
    plan = _plan(4 if smoke else 128)
    steps = 2 if smoke else STRETCH
    ways = partial(_stretch, plan, steps), partial(_plain_stretch, plan, steps)
    title = f"triage, LOW, batch {plan.batch} of 64x64, per {STEPS} steps by stretches of {steps}"
    return [Pair(title, *ways, None, partial(_seconds_per_run, steps), "s")]


def note() -> str:
    """Measure the wall time of one whole run, with its readings."""
    began = time.perf_counter()
    run = train(_plan(128), NoiseSource(), probe("noise16-64"))
    seconds = time.perf_counter() - began
    assert run.triage is not None
    return f"One whole run of `batteries.train` to the triage at step {run.triage.step}, with its readings: {seconds:.0f} s."


def _plan(batch: int) -> Plan:
    return Plan(spec=CellSpec.preset("low"), size=64, steps=STEPS, batch=batch, schedule="constant")


def _seconds_per_run(steps: int, call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * STEPS / steps


def _stretch(plan: Plan, steps: int) -> None:
    run = ours(plan.spec)
    run.plan = plan
    for images in ahead(lambda step: NoiseSource().batch(seed_of(plan.seed, step), plan.batch, plan.size), 0, steps):
        take_step(run, images)


def _plain_stretch(plan: Plan, steps: int) -> None:
    """Run the stretch in a plain loop, with data and the soft hand's draws made in line."""
    model = plain(plan.spec, 0)
    optimiser = torch.optim.Adam(model.parameters(), lr=plan.rate)
    for step in range(steps):
        images = NoiseSource().batch(seed_of(plan.seed, step), plan.batch, plan.size)
        with torch.no_grad():
            M = model.tokens(images[:1]).M
        reading = simplex_cv.cv(M[:, 0], torch.zeros(1), draws=DRAWS, seed=seed_of(plan.seed, step, 2), corrected=False)
        assert math.isfinite(getattr(reading, "value", math.nan))
        plain_step(model, optimiser, images)
