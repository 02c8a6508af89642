"""A made registry of many cells, to try the site of one: ``python -m benchmarks.made_registry FOLDER [CELLS]``.

The cells are shipped ones with other weights of one bias, and with figures drawn at random: nothing measured them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import registry
from batteries.cell import weights_file
from batteries.cell.cell import Cell, file_facts
from batteries.cell.manifest import CvFigure, Manifest
from registry.catalog import store_keys
from registry.catalog.attestation import Attestation
from registry.catalog.index import Index
from registry.catalog.release import Attested, Pin, Release
from registry.stores.directory import DirectoryStore
from registry.stores.verified_read import read_pinned

SOURCES = ("low/johanna-64", "mid/johanna-64", "high/johanna-64", "low/fresnel-64", "mid/fresnel-64", "high/fresnel-64")
CELLS = 500
FAMILIES = ("fresnel", "johanna", "freckles", "attractor", "lab")
LICENSES = ("Apache-2.0", "MIT", "CC-BY-4.0", "CC0-1.0")
VERDICTS = ("viable", "viable", "viable as a reconstructor", "walked back", None)


def make(folder: Path, count: int = CELLS, seed: int = 0) -> DirectoryStore:
    """Write a registry of ``count`` cells into a folder: every tenth has two versions, every thirtieth a yanked one."""
    store, draw = DirectoryStore(folder), np.random.default_rng(seed)
    sources = [registry.load(name, registry="embedded") for name in SOURCES]
    reports = [_report(source) for source in sources]
    cells: dict[str, dict[str, Release]] = {}
    attestations: dict[str, dict[str, Attested]] = {}
    for number in range(count):
        which = number % len(sources)
        for version in ("1.0.0", "1.1.0") if number % 10 == 0 else ("1.0.0",):
            cell = _changed(sources[which], f"made-{number:04d}", version, draw)
            store.put(store_keys.blob(cell.digest), cell.to_bytes())
            store.put(store_keys.manifest(cell.name, version), cell.manifest.to_bytes())
            yanked = "made to be yanked" if number % 30 == 0 and version == "1.0.0" else None
            release = Release.of(cell.manifest).model_copy(update={"yanked": yanked})
            cells.setdefault(cell.name, {})[version] = release
            if verdict := VERDICTS[int(draw.integers(len(VERDICTS)))]:
                changes = {"cell": cell.digest, "reference": f"{cell.name}@{version}", "verdict": verdict}
                found = reports[which].model_copy(update=changes).to_bytes()
                pin = Pin.of(found)
                store.put(store_keys.attestation(cell.digest, pin.sha256), found)
                attestations[cell.digest] = {"quick-3": Attested(sha256=pin.sha256, size=pin.size, verdict=verdict)}
    store.swap_index(None, Index(number=1, cells=cells, attestations=attestations).sealed())
    return store


def _report(cell: Cell) -> Attestation:
    """Return the shipped attestation of a cell."""
    located = next(one for one in registry.find(cell.name, registry="embedded") if one.reference.path == cell.name)
    attested = located.attestations["quick-3"]
    key = store_keys.attestation(cell.digest, attested.sha256)
    return Attestation.from_bytes(read_pinned(located.snapshot.store, key, attested).data, where=key)


def _changed(source: Cell, name: str, version: str, draw: np.random.Generator) -> Cell:
    """Return a cell with other weights, another name, and figures of its own."""
    weights = {key: np.array(values) for key, values in source.weights.items()}
    weights["enc_in.bias"] += np.float32(draw.normal(scale=0.01))
    blob = weights_file.write(weights)
    manifest, scale = source.manifest, float(draw.lognormal(sigma=0.5))
    identity = manifest.identity.model_copy(
        update={
            "name": name,
            "version": version,
            "family": FAMILIES[int(draw.integers(len(FAMILIES)))],
            "license": LICENSES[int(draw.integers(len(LICENSES)))],
            "description": f"Made cell {name}, with the figures of none.",
        }
    )
    own = manifest.own.model_copy(
        update={
            "mse": manifest.own.mse.model_copy(update={"value": manifest.own.mse.value * scale}),
            "axial_cv": _moved(manifest, float(draw.normal(1.0, 0.06))),
        }
    )
    measured = {**manifest.measured, manifest.own_probe: own}
    changes = {"identity": identity, "file": file_facts(blob, weights), "measured": measured}
    return Cell.from_bytes(blob, manifest.model_copy(update=changes), where=name)


def _moved(manifest: Manifest, factor: float) -> CvFigure:
    """Return the axial CV of a manifest times a factor."""
    cv = manifest.own.deciding_cv
    assert isinstance(cv, CvFigure), "shipped cells have a CV"
    return cv.model_copy(update={"value": cv.value * factor, "ratio": cv.ratio * factor})


def main() -> None:
    """Make the registry that the command line names."""
    folder, *count = sys.argv[1:]
    print(make(Path(folder), *map(int, count)).url)


if __name__ == "__main__":
    main()
