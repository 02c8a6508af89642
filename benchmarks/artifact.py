"""Loading of a composed model from its file, with every digest verified, against reading the bytes of the file."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

import registry
from batteries.cell.cell import Cell
from benchmarks.harness import Pair
from composer import Composition, load, read, save, wire

CELLS = 1000
HIGH = ("attractor-64", "fresnel-64", "johanna-64", "johanna-64-s1", "johanna-64-s2", "johanna-64-s3")
SOURCES = (*(f"high/{name}" for name in HIGH * 3), "high/freckles-64", "mid/johanna-64", "low/fresnel-64")
TARGET = 1 / 3  # loading hashes every byte twice, by block and by cell, and may take three times as long


def pairs(smoke: bool) -> list[Pair]:
    """Return the loads of a model of shipped cells, repeated under new names."""
    folder = tempfile.mkdtemp(prefix="batteries-")
    atexit.register(shutil.rmtree, folder)
    path = Path(folder) / "model.safetensors"
    count = len(SOURCES) if smoke else CELLS
    size = save(wire(named := _cells(count), _side_by_side(named)), path).size
    title = f"of {count:,} mixed cells, {size / 1e6:.0f} MB,"
    return [
        Pair(f"model {title} loaded and verified against `read_bytes`", lambda: load(path), path.read_bytes, TARGET),
        Pair(f"what the model {title} is against `read_bytes`", lambda: read(path), path.read_bytes),
    ]


def _cells(count: int) -> dict[str, Cell]:
    found = registry.pull(*SOURCES)
    return {f"cell-{number}": found[number % len(found)] for number in range(count)}


def _side_by_side(cells: dict[str, Cell]) -> Composition:
    return Composition.parallel({name: f"{cell.name}@{cell.version}" for name, cell in cells.items()})
