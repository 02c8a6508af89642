"""Time of commands against an interpreter that only imports their dependencies, and of verifying a registry."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import registry
from batteries.cell import weights_file
from batteries.cell.cell import Cell, file_facts
from benchmarks.harness import Pair
from registry.stores.directory import DirectoryStore
from registry.transfer.publish import write
from registry.transfer.verify import verify_store
from registry.transfer.weight_checks import check

FLOOR = "import pydantic, typer"  # imports that every command needs
CELLS = 500
SCRIPT = str(Path(sys.executable).with_name("batteries"))
COMMANDS = (("--help",), ("list",), ("show", "low/fresnel-256"), ("verify", "low/fresnel-256"))


def pairs(smoke: bool) -> list[Pair]:
    """Return commands that do not import torch, and a registry of copies of one cell with different biases."""
    started = [
        Pair(
            f"`batteries {' '.join(arguments)}` against `python -c '{FLOOR}'`",
            lambda arguments=arguments: _run(SCRIPT, *arguments),
            lambda: _run(sys.executable, "-c", FLOOR),
        )
        for arguments in COMMANDS
    ]
    count = 3 if smoke else CELLS
    folder = Path(tempfile.mkdtemp(prefix="batteries-"))
    atexit.register(shutil.rmtree, folder)
    store = _copies(folder, count)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    whole = Pair(
        f"`verify_store` of {count} HIGH cells against SHA-256 of their files",
        lambda: verify_store(store),
        lambda: [hashlib.sha256(path.read_bytes()).digest() for path in files],
    )
    return [*started, whole]


def _run(*arguments: str) -> None:
    subprocess.run(arguments, check=True, capture_output=True)


def _copies(folder: Path, count: int) -> DirectoryStore:
    (source,) = registry.pull("high/johanna-64")
    store = DirectoryStore(folder)
    for number in range(count):
        weights = {name: np.array(values) for name, values in source.weights.items()}
        weights["enc_in.bias"] += np.float32(number * 1e-4)
        blob = weights_file.write(weights)
        identity = source.manifest.identity.model_copy(update={"name": f"copy-{number}"})
        manifest = source.manifest.model_copy(update={"identity": identity, "file": file_facts(blob, weights)})
        write(check(Cell.from_bytes(blob, manifest, where=identity.name)), store)  # of other weights than were measured
    return store
