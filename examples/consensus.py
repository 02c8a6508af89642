"""A consensus of two hundred cells: what it costs, and new cells that join it by one map each.

    python examples/consensus.py           # prints the tables; exit code 1 where a claim does not hold
    python examples/consensus.py --write   # the same, and its section of docs/results/alignment.md

The cells are ten noise cells that ship, of three bands, and copies of them with Gaussian noise on their weights. Those that
join are of two other trainings, whose copies the frame has never seen; then photograph cells and untrained ones.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pages import RESULTS, put, table
from torch import Tensor

import batteries
import composer
import registry
from batteries import cellfile
from batteries.cell import file_facts
from composer.aligning import paired
from registry.controls import control_cell

SOURCES = (
    *("low/johanna-64", "low/attractor-64", "low/johanna-64-s1", "low/johanna-64-s2", "mid/johanna-64"),
    *("high/johanna-64", "high/attractor-64", "high/freckles-64", "high/johanna-64-s1", "high/johanna-64-s2"),
)
NEWCOMERS = ("low/johanna-64-s3", "high/johanna-64-s3")
PHOTOGRAPHS = ("low/fresnel-64", "mid/fresnel-64", "high/fresnel-64")
CELLS, JOINING = 200, 10
NOISE = (0.02, 0.05, 0.1)  # on a copy's weights, of the root mean square of each tensor
PROBE, EVERY = "noise16-64", 4  # every how many-th image of it is taken

Cells = Mapping[str, batteries.Cell]


def perturbed(cell: batteries.Cell, size: float, seed: int) -> batteries.Cell:
    """A copy with Gaussian noise on every tensor, ``size`` times its root mean square."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, array in cell.weights.items():
        spread = size * np.sqrt(np.mean(np.square(array)))
        weights[name] = array + (spread * rng.standard_normal(array.shape)).astype(array.dtype)
    facts = file_facts(cellfile.write(weights), weights)
    return batteries.Cell(weights, cell.manifest.model_copy(update={"file": facts}))


def crowd(names: Sequence[str], count: int) -> dict[str, batteries.Cell]:
    """So many cells: those of these names, then copies of one after the other."""
    cells = {cell.name: cell for cell in registry.pull(*names)}
    for number in range(count - len(cells)):
        name, size = names[number % len(names)], NOISE[number // len(names) % len(NOISE)]
        cells[f"{name}, copy {number}, {size:.0%}"] = perturbed(cells[name], size, number)
    return cells


def peak() -> float:
    """Most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def images() -> Tensor:
    """Those that cells are aligned on."""
    return batteries.probe(PROBE).images[::EVERY]
