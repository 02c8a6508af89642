"""Lifts of hosts over untrained cells: each shipped cell beside its first attested version, from the attestations that ship.

python examples/lifts.py   # writes docs/results/lifts.md
"""

from __future__ import annotations

from collections.abc import Iterator

from pages import RESULTS, put, table
from semver import Version

import registry
from registry.catalog.attestation import Attestation
from registry.catalog.figures import CheckFigure
from registry.catalog.reference import Reference

PROTOCOLS = "quick-2", "standard-2", "quick-3", "standard-3"  # of several for one version the last counts
LIFT = "lift, "
HEAD = ("cell", "task", "first", "its lift", "now", "its lift", "change", "bounds")
SEEDS = ", ".join(f"{one.frozen_seeds} of {name}" for name, one in registry.PROFILES.items())
WORDS = f"""`python examples/lifts.py`, from the attestations in `manifests/attestations`. *lift*: score of hosts of the frozen
cell less that of hosts of untrained cells of its spec (accuracy, or share of the noise removed), mean over hosts and seeds
({SEEDS}), with its 95% bounds; both versions of a profile have the same tasks, hosts and seeds."""


def attestations() -> dict[str, list[Attestation]]:
    """Return the attestation that counts of each version, in the order of versions, by path of the cell."""
    store = registry.open_store()
    index = registry.Index.from_bytes(store.read_index() or b"", where="the embedded index")
    found: dict[str, list[Attestation]] = {}
    for cell, known in index.attestations.items():
        for attested in [known[protocol] for protocol in PROTOCOLS if protocol in known][-1:]:
            key = f"attestations/{cell}/{attested.sha256}.json"
            one = Attestation.from_bytes(store.read(key, limit=attested.size), where=key)
            found.setdefault(Reference.parse(one.reference).path, []).append(one)
    return {path: sorted(ones, key=version) for path, ones in sorted(found.items())}


def version(attestation: Attestation) -> Version:
    """Return the version of the cell of an attestation."""
    return Version.parse(Reference.parse(attestation.reference).version or "")


def rows() -> Iterator[tuple[str, ...]]:
    """Yield a row for each task of each cell that has several versions."""
    for path, known in attestations().items():
        first, now = known[0], known[-1]
        before, after = lifts(first), lifts(now)
        for task in [task for task in before if task in after and now is not first]:
            change = (after[task].value or 0.0) - (before[task].value or 0.0)
            yield (
                *(path, task, f"{version(first)}, {first.protocol}", words(before[task])),
                *(f"{version(now)}, {now.protocol}", words(after[task]), f"{change:+.3f}"),
                "overlap" if overlap(before[task], after[task]) else "apart",
            )


def lifts(attestation: Attestation) -> dict[str, CheckFigure]:
    """Return the lifts of an attestation, by task."""
    return {check.name.removeprefix(LIFT): check for check in attestation.checks if check.name.startswith(LIFT)}


def overlap(one: CheckFigure, other: CheckFigure) -> bool:
    """Tell whether the bounds of two lifts overlap."""
    bounds = [(check.lower, check.upper) for check in (one, other) if check.lower is not None and check.upper is not None]
    return len(bounds) < 2 or max(low for low, _ in bounds) <= min(high for _, high in bounds)


def words(check: CheckFigure) -> str:
    """Format a lift with its bounds."""
    bounds = f" ({check.lower:.3f} to {check.upper:.3f})" if check.lower is not None and check.upper is not None else ""
    return f"{check.value:.3f}{bounds}"


def main() -> None:
    """Write the page."""
    found = list(rows())
    lower = [f"{path} ({task})" for path, task, *_, change, bounds in found if change.startswith("-") and bounds == "apart"]
    said = f"Lower now, with bounds apart: {', '.join(lower) or 'none'}; {len(found)} lifts."
    put(
        RESULTS / "lifts.md",
        "Lifts of the new cells beside the first ones",
        "lifts",
        f"{WORDS}\n\n{table(HEAD, found)}\n\n{said}",
    )
    print(said)


if __name__ == "__main__":
    main()
