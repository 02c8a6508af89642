"""Training step of a battery VAE against as many single cells trained on their own, in time and memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Generator

from batteries import CellSpec
from batteries.noise import random_batch
from batteries.training.step import take_step
from benchmarks.harness import Pair
from benchmarks.step import ours as single
from benchmarks.step import peak_from_here, status
from composer import BatteryVAE
from composer.vae import VaePlan
from composer.vae.objective import terms

COUNTS, BATCH = (12, 192), 4
WAYS = ("vae", "singles")
BAND = "high"


def pairs(smoke: bool) -> list[Pair]:
    """Return steps of all sectors, with the discipline and without, against a step of every single cell."""
    found = []
    for count in (2,) if smoke else COUNTS:
        title = f"step of {count} {BAND.upper()} sectors, batch {BATCH} of 64x64, against {count} single steps"
        singles = stepper("singles", count)
        found.append(Pair(title, stepper("vae", count), singles))
        found.append(Pair(f"{title}, without the discipline", stepper("vae", count, discipline=0.0), singles))
    return found


def memory(smoke: bool) -> list[Pair]:
    """Return the peak memory that two steps add to a separate process."""
    return [
        Pair(
            f"two steps of {count} {BAND.upper()} sectors, batch {BATCH} of 64x64, against {count} single cells",
            *(partial(_peak_of_a_process, way, count) for way in WAYS),
            None,
            lambda call: float(str(call())),
            "MiB",
        )
        for count in ((2,) if smoke else COUNTS)
    ]


def stepper(way: str, count: int, discipline: float = VaePlan(steps=1).discipline) -> Callable[[], object]:
    """Return a function that takes one step of all sectors, or of every single cell."""
    spec, images = CellSpec.preset(BAND), random_batch(BATCH, (64, 64), 0)[0]
    if way == "singles":
        runs = [single(spec) for _ in range(count)]
        return lambda: [take_step(run, images) for run in runs]
    vae = BatteryVAE.untrained({f"sector-{place}": spec for place in range(count)})
    plan, optimiser = VaePlan(steps=1, discipline=discipline), torch.optim.Adam(vae.parameters(), lr=1e-3)

    def step() -> None:
        optimiser.zero_grad()
        terms(vae, images, plan, 0, Generator().manual_seed(0)).loss.backward()
        optimiser.step()

    return step


def _peak_of_a_process(way: str, count: int) -> str:
    """Return the MiB that two steps add to the peak memory of a separate process."""
    words = [sys.executable, "-m", "benchmarks.vae", way, str(count)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    stepper(sys.argv[1], 2)()  # compiles first, whose memory does not count
    before = peak_from_here()
    step = stepper(sys.argv[1], int(sys.argv[2]))
    step()
    step()
    print(status("VmHWM") - before)
