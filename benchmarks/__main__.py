"""Command line of the benchmarks: ``python -m benchmarks [SUBJECT...] [--smoke] [--write]``.

A run of all subjects, without ``--smoke``, writes docs/benchmarks.md; a run of some prints their tables, and with ``--write``
replaces them in the page.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from benchmarks import alignment, artifact, container, eigen, encode, layers, optimiser, site, start, step, threads, triage, vae
from benchmarks.harness import Pair, Row, compare, smoke, surroundings, table

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
SUBJECTS: dict[str, Callable[[bool], list[Pair]]] = {
    "eigen": eigen.pairs,
    "step": step.pairs,
    "optimiser": optimiser.pairs,
    "triage": triage.pairs,
    "memory": step.memory,
    "encode": encode.pairs,
    "layers": layers.pairs,
    "container": container.pairs,
    "linear": container.linear,
    "tokens": container.tokens,
    "alignment": alignment.pairs,
    "artifact": artifact.pairs,
    "start": start.pairs,
    "site": site.pairs,
    "threads": threads.pairs,
    "vae": vae.pairs,
    "vae-memory": vae.memory,
}
NOTES: dict[str, Callable[[], str]] = {"triage": triage.note}  # measurements that are not pairs
HEAD = """# Benchmarks

Written by `python -m benchmarks`; do not edit by hand. Each line alternates runs of this package (ours) and a reference in one
process, at least five of each after a warm-up. Costs are medians; the ratio is the median of reference / ours over the pairs:
above 1, ours is cheaper. Compare the ratios, not the times."""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ratios of two implementations in one run.")
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"subjects, from {', '.join(SUBJECTS)}; default all")
    parser.add_argument("--smoke", action="store_true", help="run each once on small inputs without measuring")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md even if only some subjects run")
    given = parser.parse_args()
    unknown = sorted(set(given.subjects) - set(SUBJECTS))
    if unknown:
        parser.error(f"unknown subject: {', '.join(unknown)}; choose from {', '.join(SUBJECTS)}")
    if given.smoke:
        for name in given.subjects or SUBJECTS:
            for pair in SUBJECTS[name](True):
                smoke(pair)
            print(f"{name}: runs")
        return
    sections = {name: _section(name) for name in given.subjects or SUBJECTS}
    if given.write or not given.subjects:
        PAGE.write_text(_page(sections))


def _section(name: str) -> str:
    """Measure one subject, and print its section."""
    rows: list[Row] = [compare(pair) for pair in SUBJECTS[name](False)]
    missed = [row.pair.name for row in rows if row.missed]
    verdict = f"**{len(missed)} below target:** {'; '.join(missed)}." if missed else "All targets met."
    section = f"## {name}\n\n`python -m benchmarks {name}`: {surroundings()}.\n\n{table(rows)}\n\n{verdict}\n"
    if name in NOTES:
        section += f"\n{NOTES[name]()}\n"
    print(section)
    return section


def _page(sections: dict[str, str]) -> str:
    """Return the page with these sections replaced."""
    old = PAGE.read_text() if PAGE.exists() else ""
    kept = {match[1]: match[0] for match in re.finditer(r"^## (\w+)\n.*?(?=^## |\Z)", old, re.MULTILINE | re.DOTALL)}
    merged = {name: sections.get(name) or kept.get(name) for name in SUBJECTS}
    return "\n\n".join([HEAD, *(section.strip() for section in merged.values() if section)]) + "\n"


if __name__ == "__main__":
    main()
