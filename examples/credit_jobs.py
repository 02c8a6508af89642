"""Runs of the credit study: what each trains, what is found of it, and the file of lines that keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field

from batteries.cell.manifest import Count, Sha256, Text
from batteries.io import atomic_files, canonical_json
from batteries.io.canonical_json import Document, load_document
from composer import audit

EPOCHS = 100
SEEDS = (1, 2, 3, 4, 5)
FEW = SEEDS[:3]  # of the sets beside the reference
PLAN_VERSION = 2  # of what a result depends on, beside the fields of its job
MAX_LINE = 2**17  # bytes
MAX_LINES = 2**26
PATIENCE = 60  # seconds for the lock

RULES = ("frozen", "bp", "fa", "dfa", "dfa+0.0001", "dfa+0.01", "ep", "state-bridge", "credit-bridge")
CONTRAST = ("frozen", "bp", "dfa")
MLP = "mlp-256x4"
OPEN = "mlp-256x4-open"  # without a terminal LayerNorm
ARCHITECTURES = ("mlp-256x2", "mlp-256x12", "mlp-512x4", "student", "vit", "cnn")
CELL_INPUTS = ("omega", "M", "signature")
CELL = "high/johanna-64"


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        set: Set of the study that it belongs to.
        task: Task, or ``task:input`` with a cell before the host.
        host: Host.
        rule: Credit rule.
        seed: Seed of weights, feedback and order.
        epochs: Passes over the training data.
    """

    set: str
    task: str
    host: str
    rule: str
    seed: int
    epochs: int

    @property
    def name(self) -> str:
        """Name of the run, usable as a file name."""
        return f"{self.task.replace(':', '-')}_{self.host}_{self.rule}_s{self.seed}_e{self.epochs}"

    @property
    def digest(self) -> str:
        """SHA-256 of all that its result depends on."""
        return canonical_json.sha256(canonical_json.dump({"version": PLAN_VERSION, "name": self.name}))

    @property
    def baseline(self) -> Job:
        """Run of the same host with frozen blocks."""
        return replace(self, rule="frozen")


class Moment(Document):
    """Values of an audit along a training."""

    epoch: Count
    accuracy: float
    growth: float
    gradient: float
    stability: float


class Line(Document):
    """Result of a run.

    Attributes:
        name: Name of the run.
        plan: SHA-256 of its job.
        report: Audit at the end; None if the run diverged.
        baseline: Scores of the batches, if the run is a baseline.
        initial: Diagnostics that fired before the first step, but for (d).
        first: Epoch at which each diagnostic fired first.
        moments: Audits along the training.
        cosine: Deep cosine of each block.
        null_own: Deep cosine, if the rule has feedback to draw.
        null_mean: Mean deep cosine of fresh feedback.
        null_deviation: Standard deviation over fresh draws.
        null_z: Distance from the null in standard errors.
        nudging: Share of the true gradient's decrease by a nudge at each block.
        decrease: Share of backpropagation's decrease of the loss by a step of all blocks.
        loss: Mean training loss of the last epoch.
        diverged: Place of the divergence; None if there was none.
        seconds: CPU seconds.
    """

    name: Text
    plan: Sha256
    report: audit.AuditReport | None = None
    baseline: audit.Baseline | None = None
    initial: tuple[str, ...] = ()
    first: dict[str, int | None] = Field(default_factory=dict)
    moments: tuple[Moment, ...] = ()
    cosine: tuple[float, ...] = ()
    null_own: float | None = None
    null_mean: float | None = None
    null_deviation: float | None = None
    null_z: float | None = None
    nudging: tuple[float, ...] = ()
    decrease: float | None = None
    loss: float | None = None
    diverged: Text | None = None
    seconds: float


Lines = Mapping[Job, Line]


def jobs(epochs: int = EPOCHS, seeds: int = len(SEEDS)) -> list[Job]:
    """List the runs of every set, each run once, baselines first."""
    few = FEW[:seeds]
    found = [Job("reference", "noise", MLP, rule, seed, epochs) for seed in SEEDS[:seeds] for rule in RULES]
    found += [Job("terminal norm", "noise", OPEN, rule, seed, epochs) for seed in few for rule in (*CONTRAST, "dfa+0.01")]
    found += [Job("hosts", "noise", host, rule, seed, epochs) for host in ARCHITECTURES for seed in few for rule in CONTRAST]
    for task in ("photographs", "digits"):
        found += [Job("tasks", task, MLP, rule, seed, epochs) for seed in few for rule in (*CONTRAST, "dfa+0.01")]
    for reads in CELL_INPUTS:
        hosts = (MLP, "vit", "cnn") if reads == "omega" else (MLP,)
        found += [
            Job("cells", f"noise:{reads}", host, rule, seed, epochs) for host in hosts for seed in few for rule in CONTRAST
        ]
    return sorted(found, key=lambda job: job.rule != "frozen")


SETS = tuple(dict.fromkeys(job.set for job in jobs()))


def read(path: Path) -> dict[str, Line]:
    """Read the lines of a file by the name of the run; the last of each counts."""
    if not path.exists():
        return {}
    rows = atomic_files.read(path, limit=MAX_LINES).splitlines(keepends=True)
    return {line.name: line for line in (load_document(Line, row, where=path, limit=MAX_LINE) for row in rows)}


def known(path: Path, wanted: Iterable[Job]) -> dict[Job, Line]:
    """Return the results of runs whose job has not changed."""
    lines = read(path)
    return {job: line for job in wanted if (line := lines.get(job.name)) is not None and line.plan == job.digest}


def keep(path: Path, line: Line) -> None:
    """Merge a line into the file, sorted by name, under a lock, so that several programs can share it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_files.lock(path.with_suffix(".lock"), PATIENCE):
        lines = {**read(path), line.name: line}
        atomic_files.replace(path, b"".join(lines[name].to_bytes() for name in sorted(lines)))
