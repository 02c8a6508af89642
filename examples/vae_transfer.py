"""Does implanting speed learning? Battery VAEs from cells, from cells of other domains, and from random starts.

    python examples/vae_transfer.py                              # does the missing runs, then writes the report
    python examples/vae_transfer.py --only text-implanted-1      # one run, so that several processes can share the work
    python examples/vae_transfer.py --report                     # writes the report from the existing results

The report is docs/results/vae-transfer.md, and docs/results/vae-transfer.jsonl has every known result, written as each run
ends: a later session, on another machine too, does the missing runs only. A run takes one thread.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import vae_transfer_page
from run_command import obey
from torch import Tensor
from vae_transfer_jobs import (
    ARRAYS,
    BOTTLENECK,
    IMPLANTS,
    JOBS,
    LAW,
    READ_AT,
    SHUFFLED,
    STARTED,
    Job,
    Result,
    Store,
)

import registry
from batteries import PatchSVAE, Probe
from batteries.cell.manifest import DataSource
from batteries.data.sources import Source, seed_of
from batteries.data.unseen import unseen
from batteries.engine.threads import threads
from batteries.io import canonical_json
from composer import BatteryVAE
from composer import vae as vaes
from composer.adaptation.domains import ShippedPhotographs, own_domain
from composer.vae.start import IMAGES
from composer.vae.training import BETAS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "runs" / "vae-transfer"
PAGE = ROOT / "docs" / "results" / "vae-transfer.md"
HELD = 32  # images
HELD_SEED = 3_000_007


@dataclass(frozen=True)
class Unseen:
    """Images of a kind that no cell was trained on.

    Attributes:
        name: Name in :data:`batteries.data.unseen.NAMES`.
    """

    name: str

    def batch(self, seed: int, count: int, size: int) -> Tensor:
        """Generate images (count, 3, size, size)."""
        return unseen(self.name, count, size, seed)

    @property
    def facts(self) -> DataSource:
        """Facts about the images."""
        return DataSource(
            kind="noise",
            description=f"generated images of the unseen kind {self.name}",
            digest=canonical_json.sha256(self.name.encode()),
            images=0,
            license="none needed: generated",
            source="batteries.data.unseen",
        )

    @property
    def domain(self) -> Source:
        """This source, whole."""
        return self


@cache
def data(domain: str, size: int) -> tuple[Source, Tensor]:
    """Return training images, and held-out ones (B, 3, size, size).

    Photographs are those of the probes, which no cell was trained on: their left halves to learn, their right halves held out.
    """
    if domain == "photographs":
        held = own_domain(registry.load("high/fresnel-64")).images
        return ShippedPhotographs(), held[:: len(held) // HELD][:HELD, :, :size, :size].contiguous()
    source = Unseen(LAW if domain == "noise law" else "text")
    return source, source.batch(HELD_SEED, HELD, size)


class Curve:
    """Watcher that reads the held-out error at some steps, outside of the seconds that it counts."""

    def __init__(self, held: Tensor, first: int, seconds: float) -> None:
        self.held, self.first, self.batch = held, first, 0
        self.samples: list[int] = []
        self.errors: list[float] = []
        self.seconds: list[float] = []
        self._spent, self._since = seconds, time.process_time()

    def look(self, step: int, batch: int, reconstructed: Tensor) -> None:
        """Keep an error."""
        self.samples.append(self.first + step * batch)
        self.errors.append(float((reconstructed - self.held).square().mean()))
        self.seconds.append(self._spent)

    def pause(self) -> None:
        """Count the seconds since the last look."""
        self._spent += time.process_time() - self._since

    def go_on(self) -> None:
        """Count again from now."""
        self._since = time.process_time()


class VaeCurve(Curve):
    """Curve of a battery VAE."""

    def of(self, vae: BatteryVAE, batch: int) -> VaeCurve:
        """Read the model before the first step."""
        self.vae, self.batch = vae, batch
        self.look(0, batch, vae.reconstruct(self.held))
        self.go_on()
        return self

    def stepped(self, step: int, found: vaes.StepTerms) -> None:
        """Read the model after a step."""
        self.pause()
        if step in READ_AT:
            self.look(step, self.batch, self.vae.reconstruct(self.held))
        self.go_on()

    def read(self, reading: vaes.VaeReading) -> None:
        """Leave out the time of a reading."""
        self.go_on()


def run(job: Job, store: Store) -> Result:
    """Return the known result of a job, or do it."""
    found = store.read(job)
    if found is None:
        with threads(1):
            found = _single(job) if job.arm == "single" else _vae(job)
        store.write(job, found)
    return found


def started(job: Job, source: Source) -> BatteryVAE:
    """Make the model of a job before its first step."""
    if job.arm in ("implanted", "shuffled"):
        cells = (IMPLANTS if job.arm == "implanted" else SHUFFLED)[job.domain]
        return BatteryVAE.from_cells(registry.pull(*cells), bottleneck=BOTTLENECK, arrays=ARRAYS, seed=job.seed)
    specs = {cell.name: cell.spec for cell in registry.pull(*IMPLANTS[job.domain])}
    images = source.batch(seed_of(job.seed, 0, 1), IMAGES, 64) if job.arm == "statistics" else None
    return BatteryVAE.untrained(specs, bottleneck=BOTTLENECK, arrays=ARRAYS, seed=job.seed, images=images)


def _vae(job: Job) -> Result:
    plan = job.plan
    source, held = data(job.domain, plan.size)
    begun = time.process_time()
    vae = started(job, source)
    curve = VaeCurve(held, IMAGES if job.arm in STARTED else 0, time.process_time() - begun).of(vae, plan.batch)
    probe = Probe("held", 1, "noise", held, torch.arange(len(held)), (), canonical_json.sha256(held.numpy().tobytes()))
    vaes.train(vae, plan, source, probe, allow_probe_photos=True, watchers=[curve])
    return _result(job, source, curve, vae.cost().parameters, None)


def _single(job: Job) -> Result:
    """Fine-tune the implant that has the least error on training images: same images, batches, optimiser and schedule."""
    plan = job.plan
    source, held = data(job.domain, plan.size)
    first = source.batch(seed_of(job.seed, 0, 1), IMAGES, plan.size)
    models = {cell.name: PatchSVAE.from_cell(cell) for cell in registry.pull(*IMPLANTS[job.domain])}
    with torch.no_grad():
        errors = {name: float((model(first).recon - first).square().mean()) for name, model in models.items()}
    best = min(errors, key=lambda name: errors[name])
    model = models[best].train()
    optimiser = torch.optim.Adam(model.parameters(), lr=plan.rate, betas=BETAS)
    curve = Curve(held, 0, 0.0)
    for step in range(plan.steps + 1):
        if step in READ_AT:
            with torch.no_grad():
                curve.look(step, plan.batch, model(held).recon)
        curve.go_on()
        images = source.batch(seed_of(plan.seed, step), plan.batch, plan.size)
        optimiser.zero_grad()
        (model.reconstruction(images)[0] - images).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
        for group in optimiser.param_groups:
            group["lr"] = plan.rate_at(min(step, plan.steps - 1))
        optimiser.step()
        curve.pause()
    return _result(job, source, curve, model.spec.parameters, best)


def _result(job: Job, source: Source, curve: Curve, parameters: int, cell: str | None) -> Result:
    return Result(
        name=job.name,
        plan=job.plan_digest,
        data=str(source.facts.digest),
        trajectory=(),
        step_seconds=(curve.seconds[-1] - curve.seconds[0]) / READ_AT[-1],
        parameters=parameters,
        samples=tuple(curve.samples),
        errors=tuple(curve.errors),
        seconds=tuple(curve.seconds),
        cell=cell,
    )


def write_report(store: Store, page: Path) -> list[Job]:
    """Write the page and the kept results, and return the jobs without a result."""
    found = store.all()
    vae_transfer_page.write(found, page)
    store.keep(found)
    return [job for job in JOBS if job not in found]


def _told(job: Job, result: Result) -> str:
    return (
        f"{job.name}: error {result.errors[0]:.4g} at the start, {result.errors[-1]:.4g} at the end, {result.seconds[-1]:.1f} s"
    )


def main() -> None:
    """Run the command."""
    about = "Does implanting speed learning? Battery VAEs from cells and from random starts."
    obey(about, folder=FOLDER, page=PAGE, store_of=Store, run=run, write=write_report, told=_told)


if __name__ == "__main__":
    main()
