"""Page of a version of a cell. Every figure is that of its manifest, its attestations or the index, but for the pictures."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from batteries import __version__
from batteries.cell.manifest import CLAIMED, CvFigure, Manifest, TrainingPoint
from batteries.geometry.attractor import SIMPLEX, sphere_cv
from registry.catalog.attestation import Attestation
from registry.reports.charts.chart import Axis, Chart, Look, Point, Series
from registry.reports.charts.png import data_uri
from registry.reports.charts.viability_charts import training_charts
from registry.reports.check_guide import guide
from registry.reports.viability_page import Reconstruction, outcome, verdict_line
from registry.site.contents import CellEntry, Contents, Entry
from registry.site.related import CANDIDATES, Related
from registry.site.signatures import IMAGES
from registry.site.site_templates import render
from registry.site.usage import cell_code, commands, pin

PARENTS = {"--start": "trained on from", "--teacher": "taught by"}  # words of a recorded command that name a cell


@dataclass(frozen=True)
class Parent:
    """A cell that another was made from.

    Attributes:
        role: Relation, in words.
        reference: Reference as recorded.
        entry: Version in this registry; None if it is not there.
    """

    role: str
    reference: str
    entry: Entry | None


@dataclass(frozen=True)
class CellView:
    """A cell with what its page shows beside the manifest.

    Attributes:
        entry: Version of the cell.
        versions: Versions of its name, newest first.
        related: Related cells, the closest first.
        incomparable: Reason for which it is compared with no other cell; None if it is.
        parents: Cells that it was made from.
        children: Cells that were made from it.
    """

    entry: CellEntry
    versions: Sequence[Entry]
    related: Sequence[Related] = ()
    incomparable: str | None = None
    parents: Sequence[Parent] = ()
    children: Sequence[Entry] = field(default=())

    @property
    def facts(self) -> dict[str, Any]:
        """Everything that the page depends on apart from manifest, attestations and weights, as JSON values."""
        return {
            "yanked": self.entry.yanked,
            "versions": [[one.reference, one.newest, one.yanked, _verdicts(one)] for one in self.versions],
            "related": [[one.entry.reference, one.residual, one.exchanged, one.probe] for one in self.related],
            "incomparable": self.incomparable,
            "parents": [[one.role, one.reference, one.entry is not None] for one in self.parents],
            "children": [one.reference for one in self.children],
        }


def cell_page(
    contents: Contents, view: CellView, attestations: Sequence[Attestation], pictures: Sequence[Reconstruction]
) -> str:
    """Return the page of a version of a cell; the same values give the same bytes."""
    from markupsafe import Markup  # with jinja2, not before a page is written

    entry, manifest = view.entry, view.entry.manifest
    exact = exact_cv(manifest)
    newest = next((one for one in view.versions if one.newest), entry)
    partners = [one.entry for one in view.related]
    return render(
        "cell.html.j2",
        entry.page,
        address=contents.address,
        signed=contents.signed,
        package=__version__,
        view=view,
        entry=entry,
        manifest=manifest,
        newest=newest,
        own=["measured", manifest.own_probe],
        look=lambda path: look(manifest, path),
        exact=exact,
        cv_name="published CV" if manifest.own.axial_cv is None else "axial CV",
        is_cv=lambda figure: isinstance(figure, CvFigure),
        probes=[(probe, probe, "measured") for probe in manifest.measured]
        + [(f"Untrained, {probe}", probe, "untrained") for probe in manifest.untrained],
        null=manifest.untrained.get(manifest.own_probe),
        attestations=attestations,
        verdicts=_verdicts,
        pictures=pictures,
        data_uri=lambda png: Markup(data_uri(png)),
        curves=training_charts(Curve(exact, manifest.training.trajectory)),
        spectra=[spectrum_chart(manifest)] if manifest.own.spectrum else [],
        claimed=CLAIMED,
        candidates=CANDIDATES,
        images=IMAGES,
        commands=commands(entry, contents.address),
        code_text=cell_code(entry, partners, contents.address),
        pin=pin(entry),
        raw=raw(manifest),
        guide=guide,
        outcome=outcome,
        verdict_line=verdict_line,
    )


@dataclass(frozen=True)
class Curve:
    """Readings along a cell's training, with the exact attractor."""

    attractor: float | None
    trajectory: tuple[TrainingPoint, ...]

    @property
    def cv_name(self) -> str:
        """Name of the CV of the readings."""
        return self.trajectory[-1].cv_name if self.trajectory else "CV"


def exact_cv(manifest: Manifest) -> float | None:
    """Return the exact CV of a cell's width; None below 4, where there is none."""
    return sphere_cv(manifest.spec.D) if manifest.spec.D >= SIMPLEX else None


def spectrum_chart(manifest: Manifest) -> Chart:
    """Chart the mean singular values of M on the own probe, beside those of the untrained cell."""
    null = manifest.untrained.get(manifest.own_probe)
    lines = {"this cell": (Look("cell", "circle"), manifest.own.spectrum)}
    if null is not None and null.spectrum:
        lines = {"untrained": (Look("untrained", "triangle", dashed=True), null.spectrum), **lines}
    series = []
    for name, (look_of, values) in lines.items():
        points = tuple(Point(float(mode), value) for mode, value in enumerate(values, 1))
        series.append(Series(name, look_of, points, (points,)))
    longest = max(len(values) for _, values in lines.values())
    modes = Axis.over("mode", [1.0, float(longest)], steps=min(4, max(1, longest - 1)))
    return Chart(
        "Spectrum of S: mean singular values of M", modes, Axis.over("S", [0.0, *manifest.own.spectrum]), tuple(series)
    )


def parents_of(manifest: Manifest, contents: Contents) -> list[Parent]:
    """Return the cells that a manifest says it was made from: by adaptation, or named in its recorded command."""
    found = []
    if manifest.adapted is not None:
        entry = contents.by_digest.get(manifest.adapted.parent_digest)
        found.append(Parent("adapted from", manifest.adapted.parent, entry))
    try:
        words = shlex.split(manifest.training.command)
    except ValueError:  # a command that is none
        words = []
    for option, value in pairwise(words):
        if option in PARENTS:
            found.append(Parent(PARENTS[option], value, contents.by_reference.get(value)))
    return found


def look(document: Any, path: Sequence[str]) -> Any:
    """Return a field of a document, below documents and dictionaries; None where one on the way is None."""
    for name in path:
        document = None if document is None else document[name] if isinstance(document, Mapping) else getattr(document, name)
    return document


def raw(manifest: Any) -> str:
    """Return a manifest as JSON in ASCII, so that every character of it is visible."""
    return json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True)


def _verdicts(entry: Entry) -> list[tuple[str, str]]:
    """Return verdict and protocol of each current attestation."""
    return [(attested.verdict, protocol) for protocol, attested in sorted(entry.located.attestations.items())]
