"""Front page of a site: a chart and a table of all cells, and tables of models and maps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from batteries import __version__
from batteries.cell.manifest import BANDS
from composer.artifact.kinds import FORMS
from registry.site.contents import CellEntry, Contents
from registry.site.links import INDEX_JSON
from registry.site.scatter import MARKS, scatter
from registry.site.site_templates import render
from registry.site.usage import pull_commands
from registry.transfer.query import row_of

SEARCHED = 300  # characters of a description
COLUMNS = (
    *(("name", "cell"), ("band", "band"), ("d", "D"), ("family", "family"), ("mse", "error"), ("probe", "probe")),
    *(("ratio", "CV / exact"), ("verdict", "verdict"), ("license", "licence"), ("size", "size")),
)
TONES = {"viable": "good", "walked back": "bad", "does not hold": "bad", "yanked": "bad"}
UNTESTED = "not tested"


@dataclass(frozen=True)
class Row:
    """A version of a cell as the table shows it; all figures are those of the index."""

    path: str
    version: str
    page: str
    band: str
    D: int
    family: str
    mse: float
    probe: str
    ratio: float | None
    verdict: str
    license: str
    size: int
    newest: bool
    yanked: str | None
    text: str

    @property
    def reference(self) -> str:
        """``band/name@version``."""
        return f"{self.path}@{self.version}"

    @property
    def tone(self) -> str:
        """Tone of the verdict's colour."""
        return TONES.get(self.verdict, "none")

    @classmethod
    def of(cls, entry: CellEntry) -> Row:
        """Return the row of a version."""
        release, found = entry.located.cell_release, row_of(entry.located)
        summary, verdict = release.summary, str(found["verdict"] or UNTESTED)
        words = (entry.reference, summary.family, summary.own_probe, verdict, summary.license, entry.yanked or "")
        return cls(
            path=entry.path,
            version=entry.version,
            page=entry.page,
            band=entry.manifest.identity.band,
            D=summary.D,
            family=summary.family,
            mse=summary.mse,
            probe=summary.own_probe,
            ratio=summary.ratio,
            verdict=verdict,
            license=summary.license,
            size=release.blob.size,
            newest=entry.newest,
            yanked=entry.yanked,
            text=" ".join((*words, entry.manifest.identity.description[:SEARCHED])),
        )


def front_page(contents: Contents, page: str) -> str:
    """Return the front page of a registry's site."""
    rows = [Row.of(entry) for entry in contents.cells]
    return render(
        "front.html.j2",
        page,
        ("catalogue.js",),
        address=contents.address,
        signed=contents.signed,
        package=__version__,
        number_of_index=contents.snapshot.index.number,
        names=len({row.path for row in rows}),
        rows=rows,
        columns=COLUMNS,
        sorts=[(sign + key, _sort_words(key, label, sign)) for key, label in COLUMNS for sign in ("", "-")],
        choices={
            "band": _in_order(BANDS, (row.band for row in rows)),
            "d": sorted({row.D for row in rows}),
            "family": sorted({row.family for row in rows}),
            "probe": sorted({row.probe for row in rows}),
            "verdict": sorted({row.verdict for row in rows}),
            "license": sorted({row.license for row in rows}),
        },
        chart=scatter(contents.cells),
        marks=MARKS,
        others=list(_others(contents)),
        index_json=INDEX_JSON,
        commands=pull_commands(contents),
    )


def _others(contents: Contents) -> Iterable[tuple[str, str, list[str], list[tuple[Any, list[str]]]]]:
    """Yield title, description, columns and rows of the table of each other kind that the registry has."""
    for form in FORMS.values():
        found = [entry for entry in contents.packed if entry.located.reference.kind is form.kind and entry.newest]
        texts = [[text for _, text in entry.columns] for entry in found]
        if found:
            words = f"The newest version of each; earlier ones are on its page. Each is {form.kind.words}, as one file."
            yield form.kind.plural, words, [column.name for column in form.columns], list(zip(found, texts, strict=True))


def _sort_words(key: str, label: str, sign: str) -> str:
    if key in ("d", "mse", "ratio", "size"):
        return f"{label}, {'highest' if sign else 'lowest'} first"
    return f"{label}, {'Z to A' if sign else 'A to Z'}"


def _in_order(known: Iterable[str], found: Iterable[str]) -> list[str]:
    there = set(found)
    return [one for one in known if one in there]
