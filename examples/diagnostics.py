"""Diagnoses of the shipped cells: a table of all, and a page for each.

python examples/diagnostics.py                      # diagnoses what is not kept in runs/diagnostics, and prints the table
python examples/diagnostics.py --cells 'low/*'      # only these; the table has all that are kept
python examples/diagnostics.py --write              # also writes docs/results/diagnostics.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

from pages import NONE, RESULTS, table

import registry
from batteries import diagnostics
from batteries.cell.cell import Cell
from batteries.io import atomic_files
from batteries.io.canonical_json import load_document
from registry.answers.diagnosis import DiagnoseAnswer, DiagnosisFigure
from registry.reports import diagnosis_page

FOLDER = Path("runs") / "diagnostics"
LIMIT = 2**22  # bytes of a diagnosis
HEAD = """# Diagnoses of the shipped cells

Written by `python examples/diagnostics.py --write`; one cell with all its figures and pictures: `batteries diagnose CELL
--html FILE`. {count} of {of} cells. Five untrained cells of the spec and the best linear code of the cell's width stand
beside every figure of a diagnosis.

*home*: images of the cell's own domain, the 16 known noise laws or photographs. *verdict*: generalist if the error on
unseen laws, on text, and on photographs or known noise is at most {bound:g} times that at home, by the upper bounds of
three intervals that hold together with 95%; specialist if a lower bound is above it. Source of the
bound: {source}

*share left*:
sum of the squared errors over that of the squared differences from each image's mean colour, ± its standard error. *unseen
/ known*: MSE on 16 unseen laws over that on the known ones, with its interval. *1024 px*: error of an image of 1,024 pixels
over that of the same pixels cut to the training size. *omega, tiles*: distance of omega of an image encoded whole from that
of its 16 tiles encoded apart; 0 is a factor of cross-attention that no longer depends on the image. *signal*: correlation
of reconstructions of photographs under as much noise as signal (0 dB) with the clean ones; the noisy images themselves have
{noisy}. *compression*: numbers of a patch over those of the narrowest layer. *named*: held-out noise named by omega, chance
{chance:.3f}; in brackets the mean of untrained cells. *apart*: known told from unseen laws by omega, chance 0.5."""
COLUMNS = (
    *("cell", "home", "verdict", "of PCA", "of untrained", "share left at home", "PCA", "untrained", "unseen / known"),
    *(
        "photographs",
        "text",
        "contrast 0.05",
        "contrast 4",
        "1024 px",
        "omega, tiles",
        "signal",
        "compression",
        "named",
        "apart",
    ),
)
HOMES = {"noise": "known laws", "photos": "photographs"}


def kept(cell: Cell) -> DiagnoseAnswer | None:
    """Return the diagnosis that is kept of a cell; None if there is none."""
    path = path_of(cell)
    return load_document(DiagnoseAnswer, path.read_bytes(), where=path, limit=LIMIT) if path.exists() else None


def path_of(cell: Cell) -> Path:
    """Return the path of a cell's diagnosis."""
    return FOLDER / f"{cell.name.replace('/', '-')}-{cell.digest[:12]}.json"


def diagnose(cell: Cell) -> DiagnoseAnswer:
    """Diagnose a cell; its answer and its page are kept."""
    found = diagnostics.diagnose(cell, folder=FOLDER / "untrained")
    answer = DiagnoseAnswer.of(f"{cell.name}@{cell.version}", cell.digest, found)
    atomic_files.replace(path_of(cell).with_suffix(".html"), diagnosis_page(answer, found).encode())
    atomic_files.replace(path_of(cell), answer.to_bytes())
    return answer


def row(found: DiagnoseAnswer) -> list[str]:
    """Return a cell's row of the table."""
    of = {(one.key, one.place): one for one in found.figures}
    own = of["left", HOMES[found.home]]
    return [
        found.reference,
        HOMES[found.home],
        found.verdict,
        found.linear,
        f"{found.untrained.count(found.verdict)} of {len(found.untrained)}",
        estimate(own),
        number(own.linear),
        number(mean(own.untrained)),
        bounded(of["unseen", ""]),
        *(estimate(of["left", place]) for place in ("photographs", "text", "contrast-0.05", "contrast-4")),
        estimate(of["size", "1024 pixels"]),
        estimate(of["tile-omega", ""]),
        estimate(of["signal", "0 dB"]),
        number(of["compression", ""].value),
        beside(of["named", ""]),
        beside(of["apart", ""]),
    ]


def number(value: float | None) -> str:
    """Format a number with three digits."""
    return NONE if value is None else f"{value:.3g}"


def estimate(one: DiagnosisFigure) -> str:
    """Format a figure with its standard error."""
    return number(one.value) if one.standard_error is None else f"{number(one.value)} ± {one.standard_error:.1g}"


def bounded(one: DiagnosisFigure) -> str:
    """Format a figure with its bounds."""
    return number(one.value) if one.low is None else f"{number(one.value)} ({number(one.low)} to {number(one.high)})"


def beside(one: DiagnosisFigure) -> str:
    """Format a figure beside the mean of untrained cells."""
    return f"{estimate(one)} ({number(mean(one.untrained))})"


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the known values; None if there are none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def sentences(found: Sequence[DiagnoseAnswer]) -> list[str]:
    """Say how many cells have each verdict, and how many share it with the linear code and with untrained cells."""
    said = []
    for word in ("generalist", "specialist", "undecided"):
        of = [one for one in found if one.verdict == word]
        shared = sum(one.linear == word for one in of)
        untrained = sum(word in one.untrained for one in of)
        if of:
            said.append(
                f"{len(of)} {word}: the linear code of the same width has the same verdict in {shared} cases, an untrained "
                f"cell of the spec in {untrained}. A shared verdict is one of the images, not of the cell."
            )
    constant = [one.reference for one in found if (omega := one.of_key("tile-omega")[0].value) is not None and omega < 1e-6]
    if constant:
        said.append(f"Cross-attention scales omega by constants in {len(constant)} of {len(found)}: {', '.join(constant)}.")
    return said


def report(found: Sequence[DiagnoseAnswer], of: int) -> str:
    """Format the page."""
    noisy = number(mean(one.value for answer in found for one in answer.of_key("noisy") if one.place == "0 dB"))
    first = found[0]
    head = HEAD.format(count=len(found), of=of, bound=first.bound, source=first.source, noisy=noisy, chance=1 / len(first.laws))
    lines = "\n".join(f"- {sentence}" for sentence in sentences(found))
    return "\n\n".join([head, table(COLUMNS, [row(one) for one in found]), "## What follows", lines])


def main(words: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Diagnose the shipped cells.")
    parser.add_argument("--cells", default="*", help="pattern of the cells to diagnose")
    parser.add_argument("--write", action="store_true", help="also write docs/results/diagnostics.md")
    given = parser.parse_args(words)
    for cell in registry.pull(given.cells if "/" in given.cells else f"{given.cells}/*"):
        if kept(cell) is None:
            print(f"diagnosing {cell.name}", file=sys.stderr)
            diagnose(cell)
    cells = registry.pull("*/*")
    found = [answer for cell in cells if (answer := kept(cell)) is not None]
    text = report(found, len(cells))
    print(text)
    if given.write:
        atomic_files.replace(RESULTS / "diagnostics.md", f"{text}\n".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
