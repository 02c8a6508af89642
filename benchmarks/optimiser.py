"""Training step with Muon against the same with Adam, and Muon's update against torch's own, at the batches of short runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from batteries import CellSpec, Plan, Run, threads, untrained
from batteries.noise import random_batch
from batteries.training.muon import BatchedMuon
from batteries.training.optimisers import optimisers_of
from batteries.training.plan import Optimiser
from batteries.training.step import take_step
from benchmarks.harness import Pair

BANDS, BATCHES = ("low", "mid", "high"), (16, 32)
LEAST = 0.8  # of the speed of a step with Adam


def pairs(smoke: bool) -> list[Pair]:
    """Return whole steps, and updates alone."""
    found = []
    for band in BANDS:
        for batch in (2,) if smoke else BATCHES:
            title = f"step, Muon against Adam, {band.upper()}, batch {batch} of 64x64"
            found.append(Pair(title, _stepper("muon", band, batch), _stepper("adam", band, batch), LEAST))
    for band in BANDS:
        title = f"Muon's update of the matrices of {band.upper()}, against torch's"
        found.append(Pair(title, _updater(_ours, band), _updater(_torchs, band), 1.0))
    return found


def _stepper(optimiser: Optimiser, band: str, batch: int) -> Callable[[], float]:
    spec = CellSpec.preset(band)  # type: ignore[arg-type]
    plan = Plan(spec=spec, size=64, steps=10**9, rate=1e-4, schedule="constant", optimiser=optimiser)
    model = untrained(spec, 0)
    return partial(take_step, Run(plan, "benchmark", model, optimisers_of(plan, model)), random_batch(batch, (64, 64), 0)[0])


def _ours(matrices: list[torch.nn.Parameter]) -> torch.optim.Muon:
    return BatchedMuon(matrices, lr=1e-4)


def _torchs(matrices: list[torch.nn.Parameter]) -> torch.optim.Muon:
    return torch.optim.Muon(matrices, lr=1e-4, weight_decay=0.0)


def _updater(make: Callable[[list[torch.nn.Parameter]], torch.optim.Muon], band: str) -> Callable[[], None]:
    """Return a function that updates the matrices of a band on one thread, as in a step."""
    matrices = [one for one in untrained(CellSpec.preset(band), 0).parameters() if one.ndim == 2]  # type: ignore[arg-type]
    for matrix in matrices:
        matrix.grad = torch.randn_like(matrix)
    muon = make(matrices)

    def run() -> None:
        with threads(1):
            muon.step()

    return run
