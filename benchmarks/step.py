"""Training step against the same in plain autograd, in time and memory, from the same weights and images."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from batteries import CellSpec, Plan, Run, untrained
from batteries.model.patch_svae import BoundarySmooth
from batteries.noise import random_batch
from batteries.training.optimisers import optimisers_of
from batteries.training.step import take_step
from benchmarks.harness import Pair
from benchmarks.plain import plain, plain_step

BANDS = ("low", "high")
BATCH = 128
TARGET = 1.8
WAYS = ("ours", "plain")


def pairs(smoke: bool) -> list[Pair]:
    """Return the smoothing, and whole steps."""
    batch = 4 if smoke else BATCH
    found = [Pair(f"smoothing and its backward, batch {batch} of 64x64", *(_smoother(way, batch) for way in WAYS), 2.0)]
    for band in BANDS:
        title = f"{band.upper()}, batch {batch} of 64x64"
        found.append(Pair(f"step, {title}", *(stepper(way, band, batch) for way in WAYS), TARGET))
    return found


def memory(smoke: bool) -> list[Pair]:
    """Return the peak memory that three steps add to a separate process."""
    batch = 4 if smoke else BATCH
    found = []
    for band in BANDS[:1] if smoke else BANDS:  # each takes two processes
        ours, reference = (partial(_peak_of_a_process, way, band, batch) for way in WAYS)
        title = f"three steps, {band.upper()}, batch {batch} of 64x64"
        found.append(Pair(title, ours, reference, 1.0, lambda call: float(str(call())), "MiB"))
    return found


def stepper(way: str, band: str, batch: int) -> Callable[[], float]:
    """Return a function that takes one step of a new model and returns the loss."""
    spec = CellSpec.preset(band)  # type: ignore[arg-type]
    images = random_batch(batch, (64, 64), 0)[0]
    if way == "plain":
        model = plain(spec, 0)
        return partial(plain_step, model, torch.optim.Adam(model.parameters(), lr=1e-3), images)
    return partial(take_step, ours(spec), images)


def ours(spec: CellSpec) -> Run:
    """Make a run equivalent to the plain step: a constant rate and no soft hand."""
    model = untrained(spec, 0)
    plan = Plan(spec=spec, size=64, steps=10**9, rate=1e-3, schedule="constant", boost=0.0)
    return Run(plan, "benchmark", model, optimisers_of(plan, model))


def _smoother(way: str, batch: int) -> Callable[[], object]:
    layer = BoundarySmooth(CellSpec.preset("low"))
    images = random_batch(batch, (64, 64), 0)[0].requires_grad_()

    def run() -> object:
        out = layer(images) if way == "ours" else images + layer.net(images)
        return torch.autograd.grad(out.sum(), [images, *layer.parameters()])

    return run


def losses(way: str, band: str, batch: int, steps: int) -> list[float]:
    """Return the losses of steps on new images, to test that both implementations agree."""
    spec = CellSpec.preset(band)  # type: ignore[arg-type]
    batches: list[Tensor] = [random_batch(batch, (64, 64), seed)[0] for seed in range(steps)]
    if way == "ours":
        run = ours(spec)
        return [take_step(run, images) for images in batches]
    model = plain(spec, 0)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    return [plain_step(model, optimiser, images) for images in batches]


def _peak_of_a_process(way: str, band: str, batch: int) -> str:
    """Return the MiB that three steps add to the peak memory of a separate process."""
    words = [sys.executable, "-m", "benchmarks.step", way, band, str(batch)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def status(field: str) -> float:
    """Return a field of this process's memory in MiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def peak_from_here() -> float:
    """Forget the peak memory of this process so far, and return its memory now, in MiB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


if __name__ == "__main__":
    step = stepper(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    if sys.argv[1] == "ours":
        stepper("ours", sys.argv[2], 1)()  # compiles first, whose memory does not count
    before = peak_from_here()
    for _ in range(3):
        step()
    print(status("VmHWM") - before)
