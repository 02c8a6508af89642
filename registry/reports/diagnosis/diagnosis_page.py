"""Diagnosis as a page of HTML: verdict, pictures, errors by kind, spectra, CV, maps of S, sizes, tiles, names of noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.answers.diagnosis import DiagnoseAnswer
from registry.answers.inspection import Inspected
from registry.reports.charts import diagnosis_charts, inspection_charts
from registry.reports.charts.png import data_uri, heat_png, png_pair
from registry.reports.diagnosis.diagnosis_tables import SECTIONS, untrained
from registry.reports.diagnosis.diagnosis_tables import value as formatted
from registry.reports.number_format import number
from registry.reports.templating import render

if TYPE_CHECKING:
    from torch import Tensor

    from batteries.diagnostics import Diagnosis

TONES = {"generalist": "good", "specialist": "none", "undecided": "none"}
TITLES = {
    "kinds": "Kinds of images",
    "resolution": "Resolution",
    "tiles": "Tiles",
    "survival": "Signal in noise",
    "compression": "Compression",
    "fingerprint": "Fingerprints of noise",
    "verdict": "Verdict",
}


@dataclass(frozen=True)
class Shown:
    """Pictures side by side.

    Attributes:
        name: Name below them.
        pictures: Address and description of each.
        note: Figures below the name.
    """

    name: str
    pictures: Sequence[tuple[str, str]]
    note: str


def diagnosis_page(answer: DiagnoseAnswer, found: Diagnosis) -> str:
    """Return the page of a diagnosis; the same diagnosis gives the same bytes.

    Args:
        answer: Figures of the diagnosis.
        found: Diagnosis, with pictures, maps and an inspection.
    """
    return render(
        "diagnosis.html.j2",
        found=answer,
        drawn=diagnosis_charts,
        images=found.inspection.columns[0].images,
        pipeline=inspection_charts.pipeline(Inspected.of(found.inspection)),
        reconstructions=[_pair(one.kind, one.image, one.recon) for one in found.pictures],
        maps=[_map(one.name, one.image, one.S) for one in found.maps],
        sections=[(TITLES[name], answer.section(name)) for name in SECTIONS],
        tones=TONES,
        value=formatted,
        formulas=lambda of: {one.title: one.formula for one in of},
        untrained=untrained,
    )


def _pair(kind: str, image: Tensor, recon: Tensor) -> Shown:
    original, result = png_pair(image, recon)
    error = float((recon - image).double().square().mean())
    pictures = ((data_uri(original), f"Original: {kind}"), (data_uri(result), f"Reconstruction: {kind}"))
    return Shown(kind, pictures, f"MSE {number(error)}")


def _map(name: str, image: Tensor, S: Tensor) -> Shown:
    """Show an image with its largest and its smallest singular value over the patches."""
    original, _ = png_pair(image, image)
    pictures = [(data_uri(original), f"Original: {name}")]
    notes = []
    for mode in (0, len(S) - 1):
        pictures.append((data_uri(heat_png(S[mode])), f"S, mode {mode + 1}: {name}"))
        notes.append(f"mode {mode + 1}: {number(float(S[mode].min()))} to {number(float(S[mode].max()))}")
    return Shown(f"{name}, {S.shape[1]} by {S.shape[2]} patches", tuple(pictures), "; ".join(notes))
