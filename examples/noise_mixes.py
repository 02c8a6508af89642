"""Error of PCA-64 on patches of 16x16 pixels by noise type, of this package's mix and of the published one.

    python examples/noise_mixes.py

The components are fitted on 1,500 training images of each mix, and measured on 100 others of each type.
"""

from __future__ import annotations

import torch
from rich.console import Console

import batteries
from batteries.cell.manifest import NoiseMix
from batteries.measurement.baselines import to_patches
from batteries.noise import MIXES, NAMES, of_types
from batteries.packaging.package import linear_code
from registry.reports.fitted_table import FittedTable

SPEC, SIZE, K = batteries.CellSpec.preset("low"), 64, 64
EACH, SEED = 100, 2**40  # images of a type, and their seed, which no training batch has


def errors(mix: NoiseMix, each: int = EACH) -> list[float]:
    """Return the error of PCA-64 on every type of a mix, then on all of them."""
    code = linear_code(SPEC, SIZE, 0, batteries.NoiseSource(mix=mix))
    types = torch.arange(len(NAMES)).repeat_interleave(each)
    images = of_types(types, (SIZE, SIZE), torch.Generator().manual_seed(SEED), mix=mix)
    found = [code.error(to_patches(images[types == index], SPEC), K) for index in range(len(NAMES))]
    return [*found, sum(found) / len(found)]


def main() -> None:
    """Print one row a type."""
    table = FittedTable("type", *MIXES, "difference")
    for name, ours, published in zip((*NAMES, "all"), *map(errors, MIXES), strict=True):
        table.add_row(name, f"{ours:.4f}", f"{published:.4f}", f"{published - ours:+.4f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
