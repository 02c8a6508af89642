"""Model cards for the Hub: front matter, Markdown with all text escaped, and the card of a cell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from batteries.cell.manifest import CLAIMED, CvFigure, DegenerateFigure, Manifest, Measured

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

LIBRARY = "svae-batteries"
CARD = "README.md"
TAGS = (LIBRARY, "autoencoder")
SPECTRAL = "svd"  # tag of cells whose decoder receives singular values
OTHER = "other"
TASK = "image-feature-extraction"  # the Hub's nearest name
# Licences that the Hub knows by their SPDX names in lower case; it refuses a card with any other name.
LICENSES = {
    *("apache-2.0", "mit", "isc", "unlicense", "zlib", "mpl-2.0", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear"),
    *("cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    *("cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "ecl-2.0", "epl-1.0", "epl-2.0", "eupl-1.1", "eupl-1.2"),
}

_MARKUP = re.compile(r"([\\`*_\[\]#|~$<>&])")


def front_matter(licenses: Iterable[str], cell: Manifest | None = None, repo_id: str | None = None) -> str:
    """Return the front matter of a model card: library, licence of all cells listed, tags, and the figures of a cell.

    Args:
        licenses: SPDX names; several different ones, or one unknown to the Hub, become *other*.
        cell: Manifest of the only cell, whose figures are listed as results; None for a card of several cells.
        repo_id: Repository name of the cell, ``owner/repo``.

    >>> front_matter(["Apache-2.0", "Apache-2.0"]).splitlines()[:3]
    ['---', 'library_name: svae-batteries', 'license: apache-2.0']
    """
    from huggingface_hub import ModelCardData  # half a second, which commands that write no card save

    names = {name.lower() for name in licenses}
    license = next(iter(names)) if len(names) == 1 and names <= LICENSES else OTHER
    card = ModelCardData(
        library_name=LIBRARY,
        license=license,
        tags=[*TAGS, *([SPECTRAL] if cell is None or cell.spec.readout == "svd" else [])],
        model_name=repo_id,
        eval_results=None if cell is None else _results(cell),
    )
    return f"---\n{card.to_yaml()}\n---\n"


def _results(manifest: Manifest) -> list[EvalResult]:
    """List the figures of a cell on each probe it was measured on."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=TASK,
            task_name="Reconstruction",
            dataset_type=probe,
            dataset_name=f"{LIBRARY} probe {probe}",
            dataset_args={"version": found.probe_version, "sha256": found.probe_digest},
            metric_type=type,
            metric_name=name,
            metric_value=value,
        )
        for probe, found in sorted(manifest.measured.items())
        for type, name, value in _metrics(found)
    ]


def _metrics(found: Measured) -> list[tuple[str, str, float]]:
    """List type, name and value of each figure; a degenerate or missing CV has none."""
    rows = [("mse", "MSE", found.mse.value), ("effective_rank", "Effective rank", found.effective_rank.value)]
    cvs = (("cv", "Simplex CV", found.cv), ("axial_cv", "Axial simplex CV", found.axial_cv))
    return [*rows, *((type, name, cv.value) for type, name, cv in cvs if isinstance(cv, CvFigure))]


def escape(text: str) -> str:
    r"""Escape untrusted text for one line of Markdown.

    >>> print(escape("a|b <img>\n# c"))
    a\|b \<img\> \# c
    """
    visible = "".join(char if char.isprintable() else " " for char in text)
    return _MARKUP.sub(r"\\\1", " ".join(visible.split()))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, with the fields of its rows escaped."""
    lines = [header, ["---"] * len(header), *([escape(field) for field in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def figure(value: float | None, digits: int = 4) -> str:
    """Format a number for a card, None as a dash."""
    return "-" if value is None else f"{value:.{digits}g}"


def _cv(cv: CvFigure | DegenerateFigure | None) -> str:
    return figure(cv.value if isinstance(cv, CvFigure) else None)


def cell_card(manifest: Manifest, repo_id: str) -> str:
    """Return the model card of a cell in a repository of its own.

    Args:
        manifest: Manifest of the cell.
        repo_id: Repository name, ``owner/repo``.
    """
    identity, spec, own, data = manifest.identity, manifest.spec, manifest.own, manifest.training.data
    facts = [
        ("reference", f"{manifest.path}@{identity.version}"),
        ("description", identity.description),
        ("family", identity.family),
        ("parameters", f"{spec.parameters:,}"),
        ("V, D, patch", f"{spec.V}, {spec.D}, {spec.patch_size}"),
        ("resolution", str(identity.resolution)),
        ("probe", manifest.own_probe),
        ("CV", _cv(own.cv)),
        *[("CV (axial)", _cv(own.axial_cv))] * (own.axial_cv is not None),
        ("MSE", figure(own.mse.value)),
        (f"trained on ({CLAIMED})", data.description),
        *[("photographs of the probes among them", ", ".join(data.probe_photographs))] * bool(data.probe_photographs),
        ("licence", identity.license),
        (f"licence of the data ({CLAIMED})", data.license),
        ("sha256", manifest.file.sha256),
    ]
    parts = [
        front_matter([identity.license], manifest, repo_id),
        f"# {repo_id}\n",
        "A cell: a trained miniature PatchSVAE autoencoder. `manifest.json` describes it in full.\n",
        table(["", ""], facts),
        f'```python\nfrom batteries import Cell\n\ncell = Cell.from_pretrained("{repo_id}")  # every byte verified\n```\n',
    ]
    return "\n".join(parts)
