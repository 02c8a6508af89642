"""Tables of the shipped cells: docs/results/cells.md, and the part of README.md between its comments.

python examples/cells.py
"""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean, stdev

import torch

import batteries
import registry
from batteries import CellSpec
from batteries.cell.manifest import CvFigure, Manifest
from batteries.measurement.baselines import fit, to_patches
from batteries.noise import NAMES, of_types

ATTESTED = "quick-3", "standard-3"  # protocols of the attestations that ship, the most thorough last
EXPERTS = "expert"  # family with a cell for each noise type, which README does not list one by one
ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- cells -->", "<!-- /cells -->"
PER_TYPE, SEED = 400, 77  # images per noise type to fit its linear code, and their seed

HEAD = """# The cells that ship

Written by `python examples/cells.py` from the manifests of the embedded registry; `batteries show NAME` has every figure.
MSE is on a cell's own probe, photographs in [-1, 1] or noise in [-4, 4], with its standard error; *PCA* is the best linear code
of the same width, fitted on training images of the domain and measured on the same probe; *untrained* is the same spec before
training. HIGH has no bottleneck (48 numbers a patch, 64 hidden or more), so PCA-48 is exact there, and PCA-4 is beside it."""
FLOOR = """## How low an error on noise can go at LOW and MID

Both squeeze the 768 numbers of a patch through 64. One linear code of 64 numbers *for each noise type*, fitted on {images}
images of that type and told which type it is given, has a mean error of **{mean:.4f}** on noise16-64
({each}).
White noise leaves no more to gain: 64 of 768 independent numbers carry a twelfth of the variance. So an error of 0.85 on
this probe, which the published figures of other generators of noise suggest (PCA-64 there: 0.857), is out of reach here;
what can be asked of a cell is to stand between this and PCA-64."""

READOUTS = """## What M and omega carry

Loss of the closed-form read-outs of an attestation (docs/viability.md), ± its standard error: the share of the variance of
pixels that a read-out of M leaves unexplained, and the share of noise types, or of photographs, that a read-out of omega names
wrongly; of untrained cells of the spec, the mean."""


def main() -> None:
    """Write docs/results/cells.md and the table in README.md."""
    store = registry.open_store()
    index = registry.Index.from_bytes(store.read_index(), where="the embedded index")
    cells = registry.pull(*sorted(index.cells))
    attestations = _attestations(store, index, cells)
    verdicts = {cell.name: f"{a.verdict} ({a.protocol})" for cell, a in zip(cells, attestations, strict=True)}
    manifests = [cell.manifest for cell in cells]
    table = _table(manifests, verdicts)
    commands = "\n".join(f"- `{cell.manifest.training.command}`" for cell in cells)
    readouts = f"{READOUTS}\n\n{_readouts([found for found in attestations if found.readouts])}"
    parts = [HEAD, table, readouts, _floor(), f"## How each was trained\n\n{commands}"]
    (ROOT / "docs" / "results" / "cells.md").write_text("\n\n".join(parts) + "\n")
    page = ROOT / "README.md"
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    short = _table([manifest for manifest in manifests if manifest.identity.family != EXPERTS], verdicts)
    page.write_text(f"{before}{BEGIN}\n{short}\n{END}{after}")


def _table(manifests: list[Manifest], verdicts: dict[str, str]) -> str:
    lines = [
        "| cell | parameters | CV | CV / exact | MSE | PCA, same width | untrained | probe | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join(lines + [_row(m, verdicts[f"{m.identity.band}/{m.identity.name}"]) for m in manifests])


def _row(manifest: Manifest, verdict: str) -> str:
    own, identity = manifest.own, manifest.identity
    assert isinstance(own.cv, CvFigure)
    assert isinstance(own.deciding_cv, CvFigure)
    cv = _estimate(own.cv) if own.axial_cv is None else f"{_estimate(own.cv)}, axial {_estimate(own.deciding_cv)}"
    assert own.baselines is not None
    base, null = own.baselines, manifest.untrained[own.probe]
    pca = f"{base.pca:.4f} (k = {base.pca_k})" if base.bottleneck else f"0 (k = {base.pca_k}); {base.pca_width:.4f} (k = D)"
    fields = (
        f"{identity.band}/{identity.name}@{identity.version}",
        f"{manifest.spec.parameters:,}",
        cv,
        f"{own.deciding_cv.ratio:.3f}{'' if own.deciding_cv.on_attractor else ' (off)'}",
        f"{own.mse.value:.4g} ± {own.mse.standard_error:.1g}",
        pca,
        f"{null.mse.value:.3f}",
        own.probe,
        verdict,
    )
    return f"| {' | '.join(fields)} |"


def _attestations(store: registry.Store, index: registry.Index, cells: list[batteries.Cell]) -> list[registry.Attestation]:
    found = []
    for cell in cells:
        known = index.attestations[cell.digest]
        attested = next(known[protocol] for protocol in reversed(ATTESTED) if protocol in known)
        key = f"attestations/{cell.digest}/{attested.sha256}.json"
        found.append(registry.Attestation.from_bytes(store.read(key, limit=attested.size), where=key))
    return found


def _readouts(attestations: list[registry.Attestation]) -> str:
    rows = ["| cell | M | M, untrained | omega | omega, untrained |", "|---|---|---|---|---|"]
    for found in attestations:
        losses = [_loss(found, reads, subject) for reads in ("M", "omega") for subject in ("cell", "untrained")]
        rows.append(f"| {' | '.join([found.reference, *losses])} |")
    return "\n".join(rows)


def _loss(found: registry.Attestation, reads: str, subject: str) -> str:
    figures = [figure for figure in found.readouts if (figure.reads, figure.subject) == (reads, subject)]
    loss = fmean(figure.loss for figure in figures)
    if subject == "untrained":
        return f"{loss:.4f}"
    (own,) = figures
    error = own.within if own.within is not None else stdev(own.losses) / math.sqrt(len(own.losses))
    return f"{loss:.4f} ± {error:.4f}"


def _estimate(cv: CvFigure) -> str:
    return f"{cv.value:.4f} ± {cv.standard_error:.4f}"


def _floor() -> str:
    """Report the error on the noise probe of one linear code of 64 numbers per noise type, given the type."""
    spec, probe = CellSpec.preset("low"), batteries.probe("noise16-64")
    errors = []
    for kind in range(len(NAMES)):
        images = of_types(torch.full((PER_TYPE,), kind), (64, 64), torch.Generator().manual_seed(SEED + kind))
        errors.append(fit(images, spec).error(to_patches(probe.images[probe.group == kind], spec), spec.hidden))
    each = ", ".join(f"{name} {error:.3f}" for name, error in zip(NAMES, errors, strict=True))
    return FLOOR.format(images=PER_TYPE, mean=sum(errors) / len(errors), each=each)


if __name__ == "__main__":
    main()
