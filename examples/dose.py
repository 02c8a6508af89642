"""The measurement behind the reference dose: a cell under its host's raw gradient, at four doses.

python examples/dose.py low/fresnel-256 low/johanna-64 high/johanna-64
"""

from __future__ import annotations

import sys

from rich.console import Console

import batteries
import registry
from registry import checks, reports
from registry.protocol import FIRST
from registry.tasks import own_task
from registry.trials import unfrozen_trial

RATES = (1e-5, 1e-4, 3e-4, 1e-3)


def main(references: list[str]) -> None:
    """One row per cell and rate, for the protocol's number of steps."""
    table = reports.plain_table("cell", "rate", "accuracy", "|dW|/|W|", "CV", "rank", "retention")
    for cell in registry.pull(*references):
        own = batteries.probe(cell.manifest.own_probe)
        task = own_task(own.domain, FIRST.size, FIRST.train, FIRST.test, 0)
        for rate in RATES:
            trial = unfrozen_trial(cell, task, FIRST.model_copy(update={"dose_rate": rate}), own, 0)
            ratios = [f"{check.value:.3f}" for check in checks.dosed(trial, FIRST)]
            table.add_row(cell.name, f"{rate:g}", f"{trial.accuracy:.3f}", f"{trial.weight_change:.4f}", *ratios)
    Console(width=100).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
