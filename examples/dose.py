"""Measurement behind the reference dose: cells under their host's gradient, at six rates, three seeds each.

python examples/dose.py low/johanna-64 high/johanna-64
"""

from __future__ import annotations

import statistics
import sys

from rich.console import Console

import batteries
import registry
from registry.reports.fitted_table import FittedTable
from registry.viability.tasks import own_hosts, own_tasks
from registry.viability.trials import Trial, dose_trial

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 1e-2)
SEEDS = range(3)


def main(targets: list[str]) -> None:
    """Print mean and standard deviation over seeds by cell and rate, for the quick profile's number of steps."""
    protocol = registry.PROFILES["quick"].model_copy(update={"readings": 1})
    table = FittedTable("cell", "rate", "score", "|dW|/|W|", "axial CV", "rank", "retention", "kept")
    for cell in map(registry.load, targets):
        own = batteries.probe(cell.manifest.own_probe)
        task, host = own_tasks(own, protocol, 0)[-1], next(iter(own_hosts(protocol).values()))
        for rate in RATES:
            found = [dose_trial(Trial(cell, "cell", protocol, own), task, host, rate, seed)[0] for seed in SEEDS]
            columns = ([d.score for d in found], [d.weight_change for d in found])
            ratios = ([d.axial_cv[0] if d.axial_cv else float("nan") for d in found], [d.rank[0] for d in found])
            content = ([d.retention for d in found], [d.kept for d in found])
            row = (f"{statistics.mean(v):.4g} ± {statistics.stdev(v):.2g}" for v in (*columns, *ratios, *content))
            table.add_row(cell.name, f"{rate:g}", *row)
    Console(width=140).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
