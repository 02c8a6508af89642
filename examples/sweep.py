"""Reliability of verdicts and controls: the quick viability test of each cell with many seeds.

    python examples/sweep.py verdicts low/fresnel-256 high/johanna-64 --seeds 20   # the missing tests among 20
    python examples/sweep.py controls low/fresnel-256 high/johanna-64 --seeds 20   # tabulates their negative controls
    python examples/sweep.py report                                                # writes docs/results/viability.md

A test adds one line to ``runs/sweep/verdicts.jsonl``; an interrupted test resumes from its finished parts. Several processes
may share the work by cells.
"""

from __future__ import annotations

import argparse
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import kept_lines

import registry
from batteries.cell.cell import Cell
from batteries.cell.manifest import Count, Sha256, Text
from batteries.io import atomic_files
from batteries.io.canonical_json import Document, load_document
from registry.catalog.attestation import Verdict, verdict_words
from registry.catalog.figures import ControlFigure
from registry.viability.controls import NAMED_CHECK

PROTOCOL = registry.PROFILES["quick"]
ATTESTED = "standard-3"  # of the attestations that ship those with five seeds at every dose
SPACING = max(PROTOCOL.frozen_seeds, PROTOCOL.dose_seeds, PROTOCOL.reference_seeds)  # no two tests share a seed
CONFIDENCE = 0.95
HALVINGS = 60  # bisections of an interval of length 1, beyond the precision of a float

ROOT = Path(__file__).parents[1]
LINES = ROOT / "runs" / "sweep" / "verdicts.jsonl"
PAGE = ROOT / "docs" / "results" / "viability.md"

START, END = "<!-- sweep -->", "<!-- /sweep -->"
SECTION = re.compile(f"{START}.*?{END}", re.DOTALL)
NEW_PAGE = f"# Viability\n\n{START}{END}\n"


class Line(Document):
    """One viability test of a cell with one seed.

    Attributes:
        reference: ``band/name@version`` of the cell.
        cell: SHA-256 of its weights file.
        seed: Seed of the test.
        verdict: Verdict of the test.
        failed: Names of the deciding checks that did not pass.
        controls: Negative controls of the test.
        protocol_digest: SHA-256 of the protocol's numbers.
    """

    reference: Text
    cell: Sha256
    seed: Count
    verdict: Verdict
    failed: tuple[Text, ...]
    controls: tuple[ControlFigure, ...]
    protocol_digest: Sha256


def verdicts(references: Sequence[str], seeds: int, lines: Path) -> None:
    """Test each cell with every seed that has no line yet."""
    for cell in map(registry.load, references):
        for seed in missing(of(cell, read(lines)), seeds):
            found = line_of(registry.validate(cell, profile="quick", seed=seed))
            append(found, lines)
            print(f"{found.reference}, seed {seed}: {verdict_words(found.verdict, found.failed)}", flush=True)


def controls(references: Sequence[str], seeds: int, lines: Path) -> None:
    """Tabulate the cells' controls from the existing lines, and name the missing tests."""
    found = read(lines)
    chosen = []
    for cell in map(registry.load, references):
        own = [line for line in of(cell, found) if line.seed < seeds * SPACING]
        chosen += own
        if absent := missing(own, seeds):
            print(f"{cell.name}@{cell.version}: no line for {len(absent)} of {seeds} seeds; `verdicts` makes them")
    print(controls_table(chosen))


def of(cell: Cell, lines: Sequence[Line]) -> list[Line]:
    """Return the lines of a cell."""
    return [line for line in lines if (line.reference, line.cell) == (f"{cell.name}@{cell.version}", cell.digest)]


def missing(lines: Sequence[Line], seeds: int) -> list[int]:
    """Return those of the first ``seeds`` seeds, SPACING apart, without a line."""
    return sorted(set(range(0, seeds * SPACING, SPACING)) - {line.seed for line in lines})


def line_of(report: registry.Report) -> Line:
    """Extract the line of a report."""
    found = report.attestation
    return Line(
        reference=found.reference,
        cell=found.cell,
        seed=found.seed,
        verdict=found.verdict,
        failed=found.failed,
        controls=found.controls,
        protocol_digest=found.protocol_digest,
    )


def append(line: Line, lines: Path) -> None:
    """Add a line."""
    kept_lines.merge(lines, lambda before: before + line.to_bytes())


def read(lines: Path) -> list[Line]:
    """Read the lines of the current protocol, sorted by cell and seed; the last of each counts."""
    rows = kept_lines.read(lines).splitlines(keepends=True)
    found = [load_document(Line, row, where=lines, limit=kept_lines.MAX_KEPT) for row in rows]
    current = {(line.reference, line.cell, line.seed): line for line in found if line.protocol_digest == PROTOCOL.digest}
    return [current[key] for key in sorted(current)]


def clopper_pearson(count: int, of: int) -> tuple[float, float]:
    """Return exact two-sided 95% bounds of a share, ``count`` of ``of`` (Clopper and Pearson, Biometrika 26, 1934)."""
    return _lower(count, of), 1 - _lower(of - count, of)


def _lower(count: int, of: int) -> float:
    """Find by bisection the share at which ``count`` or more have a probability of 2.5%; 0 if ``count`` is 0."""
    if count == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        share = (low + high) / 2
        chance = sum(math.comb(of, k) * share**k * (1 - share) ** (of - k) for k in range(count, of + 1))
        low, high = (share, high) if chance < (1 - CONFIDENCE) / 2 else (low, share)
    return (low + high) / 2


def write_report(lines: Path, page: Path) -> None:
    """Rewrite the section of the page between its comments."""
    old = page.read_text(encoding="utf-8") if page.exists() else NEW_PAGE
    atomic_files.replace(page, with_section(old, section(read(lines))).encode())


def with_section(page: str, words: str) -> str:
    """Replace the section of a page, or append it.

    Raises:
        ValueError: one of the two comments is missing, so that the section has no bounds.
    """
    new = f"{START}\n{words}\n{END}"
    found = SECTION.search(page)
    if found:
        return page[: found.start()] + new + page[found.end() :]
    if START in page or END in page:
        raise ValueError(f"the section needs both of its comments, {START} before {END}")
    return f"{page.rstrip()}\n\n{new}\n"


def section(lines: Sequence[Line]) -> str:
    """Format the tables with their method."""
    protocol = f"protocol `{PROTOCOL.name}`, digest `{PROTOCOL.digest[:12]}`"
    tables = "\n\n".join([verdicts_table(lines), controls_table(lines), dose_table(shipped())])
    return f"""Between these comments written by `python examples/sweep.py report`; the tests are those of
`python examples/sweep.py verdicts REFERENCE... --seeds N`: {protocol}, with seeds {SPACING} apart, so that no two
tests share hosts, images or controls; the cell and the untrained cells it is held against stay the same.
Bounds are exact two-sided 95% bounds of the share (Clopper and Pearson 1934).

{tables}

The last table is of the `standard` attestations that ship: mean and standard deviation over seeds of what is left after
{PROTOCOL.dose_steps} steps of a host's gradient; the holding dose is the largest rate, times steps, up to
which every trial held."""


def verdicts_table(lines: Sequence[Line]) -> str:
    """Tabulate the share of viable verdicts and the failed checks of each cell."""
    rows = [
        [*cell, *_share(sum(line.verdict == "viable" for line in own), len(own)), _failures(own)]
        for cell, own in _by_cell(lines).items()
    ]
    return _table(("cell", "weights", "viable", "95% bounds", "failed checks"), rows)


def controls_table(lines: Sequence[Line]) -> str:
    """Tabulate the share of tests in which each control was rejected, by check."""
    rows = []
    for cell, own in _by_cell([line for line in lines if line.controls]).items():
        figures = [figure for line in own for figure in line.controls]
        rejected = Counter((figure.name, figure.by) for figure in figures if figure.rejected)
        for key in dict.fromkeys([*NAMED_CHECK.items(), *((figure.name, figure.by) for figure in figures)]):
            rows.append([*cell, *key, *_share(rejected[key], len(own))])
    return _table(("cell", "weights", "control", "check", "rejected", "95% bounds"), rows)


def shipped() -> list[registry.Attestation]:
    """Read the standard attestations of the embedded registry, sorted by cell."""
    store = registry.open_store()
    index = registry.Index.from_bytes(store.read_index() or b"", where="the embedded index")
    found = []
    for cell, known in index.attestations.items():
        if attested := known.get(ATTESTED):
            key = f"attestations/{cell}/{attested.sha256}.json"
            found.append(registry.Attestation.from_bytes(store.read(key, limit=attested.size), where=key))
    return sorted(found, key=lambda attestation: attestation.reference)


def dose_table(attestations: Sequence[registry.Attestation]) -> str:
    """Tabulate content kept, retention and CV of each cell at each dose."""
    rows = []
    for found in attestations:
        own = [dose for dose in found.doses if dose.subject == "cell"]
        for rate in sorted({dose.rate for dose in own}):
            at = [dose for dose in own if dose.rate == rate]
            cvs = [dose.deciding_cv[0] if dose.deciding_cv else math.nan for dose in at]
            figures = ([dose.kept for dose in at], [dose.retention for dose in at], cvs)
            words = (f"{mean(values):.3g} ± {stdev(values):.2g}" for values in figures)
            rows.append([found.reference, f"{rate:g}", str(len(at)), *words, f"{found.figures['holding dose']:g}"])
    return _table(("cell", "rate", "seeds", "content kept", "retention", "CV", "holding dose"), rows)


def _by_cell(lines: Sequence[Line]) -> dict[tuple[str, str], list[Line]]:
    """Group lines by reference and the start of the weights' digest."""
    found: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        found.setdefault((line.reference, f"`{line.cell[:12]}`"), []).append(line)
    return found


def _share(count: int, of: int) -> tuple[str, str]:
    low, high = clopper_pearson(count, of)
    return f"{count} of {of}", f"{low:.4f} to {high:.4f}"


def _failures(lines: Sequence[Line]) -> str:
    """List each failed check with its number of tests, and the number without a verdict."""
    counts = Counter(check for line in lines for check in line.failed)
    words = [f"{check} ({count})" for check, count in counts.most_common()]
    undecided = sum(line.verdict == "no verdict" for line in lines)
    return "; ".join([*words, *([f"no verdict, a control was not rejected ({undecided})"] if undecided else [])]) or "none"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = ([cell.replace("|", "\\|") for cell in row] for row in (columns, ["---"] * len(columns), *rows))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Reliability of verdicts and controls over seeds.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in (("verdicts", "test cells with many seeds"), ("controls", "tabulate the controls of these tests")):
        command = commands.add_parser(name, help=words)
        command.add_argument("references", nargs="+", metavar="REF", help="a cell, such as low/fresnel-256, or its file")
        command.add_argument("--seeds", type=int, default=20, metavar="N", help="number of seeds; default: 20")
    commands.add_parser("report", help="write docs/results/viability.md")
    given = parser.parse_args()
    if given.command == "report":
        write_report(LINES, PAGE)
        print(f"written: {PAGE}")
        return
    run = verdicts if given.command == "verdicts" else controls
    run(given.references, given.seeds, LINES)


if __name__ == "__main__":
    main()
