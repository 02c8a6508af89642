"""Tiny cells made by hand, without torch, and the fixed surroundings that several test files need."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from batteries.cell import weights_file
from batteries.cell.cell import Cell, file_facts
from batteries.cell.manifest import (
    Baselines,
    CvFigure,
    DataSource,
    DegenerateFigure,
    Estimated,
    HeldFigure,
    Identity,
    InputScale,
    Manifest,
    Measured,
    TrainingFacts,
    TrainingPoint,
)
from batteries.cell.spec import CellSpec
from registry.catalog.attestation import Attestation
from registry.catalog.figures import CheckFigure, ControlFigure
from registry.stores.memory import MemoryStore
from registry.transfer import publish as publishing
from registry.transfer.weight_checks import check

ROOT = Path(__file__).parents[2]
DAMAGED = (  # what is said of a document whose bytes were changed, or are another file's
    r"\[(JSON|SCHEMA|SCHEMA_NEWER|NUMBER|DUPLICATE_KEY|NOT_CANONICAL|TOO_DEEP|TOO_LARGE|MERGE_CONFLICT|INDEX_DIGEST"
    r"|COMPRESSED|HTML_PAGE|(LFS|XET|ANNEX)_POINTER)\]"
)
SPEC = CellSpec(V=5, D=4, patch_size=1, hidden=2, depth=0, cross_layers=0, heads=2, smooth_width=1, channels=1)


def tiny(name="tiny", version="1.0.0", *, seed=0, cv=0.92, band="high", description="made by hand") -> Cell:
    """A cell of about a kilobyte; the same arguments give the same bytes in every process."""
    generator = np.random.default_rng(seed)
    spec = SPEC.model_copy(update={"D": {"low": 16, "mid": 8}.get(band, 4)})
    shapes = spec.tensor_shapes()
    weights = {key: generator.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
    blob = weights_file.write(weights)
    own = measured(cv, band)
    identity = Identity(
        band=band,
        name=name,
        version=version,
        family="johanna",
        resolution=8,
        input=InputScale(mean=(0.0,), std=(1.0,)),
        license="Apache-2.0",
        description=description,
    )
    manifest = Manifest(
        identity=identity,
        spec=spec,
        file=file_facts(blob, weights),
        training=training(),
        own_probe="noise16-64",
        measured={"noise16-64": own},
        untrained={"noise16-64": own},
    )
    return Cell.from_bytes(blob, manifest, where=name)


def cells(count: int) -> list[Cell]:
    """That many cells of different names."""
    return [tiny(f"cell-{n}", seed=n) for n in range(count)]


def filled(*some: Cell) -> MemoryStore:
    """A registry in memory that has these."""
    store = MemoryStore()
    for cell in some:
        publish(cell, store)
    return store


def with_axial(cell: Cell, value: float) -> Cell:
    """The same weights, whose manifest has an axial CV beside the published one."""
    own = cell.manifest.own
    axial = own.cv.model_copy(update={"value": value, "ratio": value / 0.92307, "corrected": True})
    measured = {cell.manifest.own_probe: own.model_copy(update={"axial_cv": axial})}
    return Cell(cell.weights, cell.manifest.model_copy(update={"measured": measured}))


def publish(cell, registry, signing=None) -> publishing.Published:
    """Publish a cell made by hand, whose figures nothing measured: the tests of these are in ``test_claims.py``."""
    if not isinstance(cell, Cell):
        return publishing.publish(cell, registry, signing=signing)
    return publishing.write(check(cell), publishing.target_store(registry), signing)


def measured(cv: float | None, band: str | None) -> Measured:
    figure = CvFigure(
        value=cv or 1.0,
        standard_error=0.0123,
        matrices=64,
        images=16,
        draws=1000,
        seed=0,
        ratio=(cv or 1.0) / 0.92307,
        on_attractor=True,
    )
    return Measured(
        probe="noise16-64",
        probe_version=1,
        probe_digest="0" * 64,
        cv=DegenerateFigure(degenerate="flat rows") if cv is None else figure,
        band=band,
        held=HeldFigure(since_step=1, ratio=1.0, lower=0.9, upper=1.1, holds=True),
        mse=Estimated(value=0.25, standard_error=None),
        mse_by_group={"gaussian": 0.25},
        baselines=Baselines(mean=1.0, pca_k=1, pca=0.5, pca_width=0.5, bottleneck=False, fitted_on="noise"),
        effective_rank=Estimated(value=3.9, standard_error=0.01),
        spectrum=(2.0, 1.0, 0.5, 0.25),
        radius_error=1e-7,
    )


def training() -> TrainingFacts:
    data = DataSource(kind="noise", description="16 types", digest="1" * 64, images=0, license="none", source="generated")
    return TrainingFacts(
        data=data,
        command="by hand",
        steps=10,
        batch=4,
        size=8,
        optimiser="none",
        schedule="none",
        soft_hand="off",
        seed=0,
        package="0.1.0",
        torch="0",
        triage=None,
        trajectory=(TrainingPoint(step=10, mse=0.25, cv=0.92, cv_standard_error=None),),
    )


def attestation(cell: Cell, *, protocol="quick-1", verdict="viable", seed=0) -> Attestation:
    check = CheckFigure(
        name="finite",
        passed=True,
        decides=True,
        value=0.0,
        lower=None,
        upper=None,
        threshold="0",
        source="definition",
        reason="all values are finite",
    )
    return Attestation(
        cell=cell.digest,
        reference=f"{cell.name}@{cell.version}",
        D=cell.spec.D,
        attractor=None,
        probe="noise16-64",
        words=("made by hand.",),
        trajectory=(),
        frozen=(),
        doses=(),
        returns=(),
        reference_rate=1e-5,
        protocol=protocol,
        verdict=verdict,
        protocol_digest="2" * 64,
        control=None,
        checks=(check,),
        controls=(ControlFigure(name="nan", rejected=True, by="finite"),),
        figures={"mse": 0.25},
        package="0.1.0",
        torch="0",
        seed=seed,
    )


def python(code: str, *arguments: object, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, which finds this project and these tests."""
    import os

    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def litter(folder: Path) -> list[Path]:
    """Temporary files that somebody left behind."""
    return [path for path in folder.rglob("*") if path.name.endswith(".part")]


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))
    }


def from_model(spec: CellSpec, seed: int, name: str, *, band="high") -> Cell:
    """An untrained cell with a hand-made manifest: for tests of what runs a cell, not of what a cell is worth."""
    from batteries.model.patch_svae import arrays_of, untrained

    weights = arrays_of(untrained(spec, seed))
    blob = weights_file.write(weights)
    base = tiny(name, band=band, cv={"low": 0.2, "mid": 0.36, "high": 0.92}[band]).manifest
    scale = InputScale(mean=(0.0,) * spec.channels, std=(1.0,) * spec.channels)
    identity = base.identity.model_copy(update={"input": scale})
    manifest = base.model_copy(update={"identity": identity, "spec": spec, "file": file_facts(blob, weights)})
    return Cell.from_bytes(blob, manifest, where=name)


def turned(cell: Cell, name: str, rotation: np.ndarray) -> Cell:
    """A cell whose every M is M R, and which is else the same: what it sees, in another frame of its row space."""
    V, D = cell.spec.V, cell.spec.D
    weights = {key: array.copy() for key, array in cell.weights.items()}
    for key in ("enc_out.weight", "enc_out.bias"):
        rows = weights[key].reshape(V, D, -1)
        weights[key] = np.einsum("vdh,de->veh", rows, rotation).reshape(weights[key].shape).astype(np.float32)
    blob = weights_file.write(weights)
    identity = cell.manifest.identity.model_copy(update={"name": name})
    manifest = cell.manifest.model_copy(update={"identity": identity, "file": file_facts(blob, weights)})
    return Cell.from_bytes(blob, manifest, where=name)
