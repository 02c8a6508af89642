"""Accuracy of naming the noise type by a linear read-out of omega's statistics, beside untrained cells.

python examples/readout.py low/johanna-64 high/johanna-64
"""

from __future__ import annotations

import statistics
import sys
from functools import cache

from rich.console import Console

import batteries
import registry
from batteries.cell.manifest import NoiseMix
from batteries.packaging.package import UNTRAINED_SEED
from batteries.readout import name_noise
from registry.reports.fitted_table import FittedTable

UNTRAINED = 5


@cache
def untrained_accuracies(spec: batteries.CellSpec, mix: NoiseMix) -> list[float]:
    """Return the accuracies of untrained cells of a spec on a noise mix, computed once for both."""
    return [name_noise(batteries.untrained(spec, UNTRAINED_SEED + i), mix=mix) for i in range(UNTRAINED)]


def main(targets: list[str]) -> None:
    """Print one row per noise cell, and name the cells left out."""
    table = FittedTable("cell", "accuracy", "untrained", "sd", "points")
    for cell in map(registry.load, targets):
        own = batteries.probe(cell.manifest.own_probe)
        if own.domain != "noise":
            print(f"{cell.name}: left out, its own probe is {own.name}", file=sys.stderr)
            continue
        accuracy = name_noise(batteries.PatchSVAE.from_cell(cell), mix=own.noise_mix)
        null = untrained_accuracies(cell.spec, own.noise_mix)
        mean = statistics.mean(null)
        row = (accuracy, mean, statistics.stdev(null))
        table.add_row(cell.name, *(f"{value:.4f}" for value in row), f"{100 * (accuracy - mean):+.1f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
