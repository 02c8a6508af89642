"""Controls of ``batteries compare``: two random halves of one probe mark nothing, an untrained twin marks error and read-out.

    python examples/inspection_controls.py --draws 1000 --full 0 --write

Each draw puts as many images of every noise type into each half. It compares the means of the halves' pseudo-values, to first
order the figures of the halves, so that a thousand draws need one inspection; with ``--full N`` the halves of N further draws
are inspected each by itself. With ``--write`` the figures go into docs/results/inspection-controls.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from pages import RESULTS, put

import batteries
import registry
from batteries import diagnostics
from batteries.diagnostics import Column, Figure

CELLS = ("high/freckles-64", "low/johanna-64")
TWINS = ("high/freckles-64", "low/johanna-64", "low/fresnel-64")
SPEC = batteries.CellSpec.preset("high")  # of no effect on a comparison
PAGE = RESULTS / "inspection-controls.md"


def halves(probe: batteries.Probe, seed: int) -> list[batteries.Probe]:
    """Split a probe into two halves with as many images of each group."""
    generator = torch.Generator().manual_seed(seed)
    sides: list[list[torch.Tensor]] = [[], []]
    for group in range(len(probe.groups)):
        places = (probe.group == group).nonzero()[:, 0]
        mixed = places[torch.randperm(len(places), generator=generator)]
        for side, part in zip(sides, mixed.chunk(2), strict=True):
            side.append(part)
    kept = [torch.cat(side).sort().values for side in sides]
    return [
        batteries.Probe(
            probe.name, 1, probe.domain, probe.images[part], probe.group[part], probe.groups, f"{seed} {side}", probe.noise_mix
        )
        for side, part in enumerate(kept)
    ]


def split(figures: Sequence[Figure], group: torch.Tensor, seed: int) -> list[list[Figure]]:
    """Split the pseudo-values of figures into two halves, images of every group alike."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.zeros(len(group), dtype=torch.bool)
    for one in group.unique():
        places = (group == one).nonzero()[:, 0]
        first[places[torch.randperm(len(places), generator=generator)[: len(places) // 2]]] = True
    names = list(dict.fromkeys(figure.place for figure in figures if figure.definition.key == "mse-group"))
    sides: list[list[Figure]] = [[], []]
    for figure in figures:
        of_group = figure.definition.key == "mse-group"
        mask = first[group == names.index(figure.place)] if of_group else first
        for side, chosen in zip(sides, (mask, ~mask), strict=True):
            side.append(_part(figure, chosen) if len(figure.by_cluster) == len(mask) else figure)
    return sides


def _part(figure: Figure, chosen: torch.Tensor) -> Figure:
    """Return the mean of some of a figure's pseudo-values."""
    values = torch.tensor(figure.by_cluster, dtype=torch.float64)[chosen]
    sums = torch.stack([torch.ones_like(values), values], dim=1)
    return diagnostics.jackknifed(
        figure.definition, sums, torch.arange(len(values)), lambda s: s[..., 1] / s[..., 0], figure.place
    )


def draws_without_mark(column: Column, group: torch.Tensor, draws: int) -> tuple[int, Counter[str]]:
    """Count the draws of halves that mark nothing, and the figures that others mark."""
    clean, which = 0, Counter[str]()
    for seed in range(draws):
        sides = [
            replace(column, figures=tuple(side), digest=str(n)) for n, side in enumerate(split(column.figures, group, seed))
        ]
        first, second = (diagnostics.Inspection("half", SPEC, "halves", (side,)) for side in sides)
        marked = [row.first.name for row in diagnostics.compare(first, second).marked]
        clean += not marked
        which.update(marked)
    return clean, which


def marked_halves(model: batteries.PatchSVAE, probe: batteries.Probe, seed: int) -> list[str]:
    """Return the names of the figures that differ between two halves of a probe."""
    first, second = (diagnostics.inspect(model, half) for half in halves(probe, seed))
    return [row.first.name for row in diagnostics.compare(first, second).marked]


def marked_twin(cell: batteries.Cell) -> list[str]:
    """Return the names of the figures that differ between a cell and its untrained twin, on the cell's own probe."""
    probe = cell.manifest.own_probe
    models = (batteries.PatchSVAE.from_cell(cell), batteries.untrained(cell.spec, seed=0))
    first, second = (diagnostics.inspect(model, probe, input=cell.manifest.identity.input) for model in models)
    return [row.first.name for row in diagnostics.compare(first, second).marked]


def main() -> None:
    """Run the controls."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000, help="pairs of halves of pseudo-values for each cell")
    parser.add_argument("--full", type=int, default=0, help="pairs of halves that are inspected each by itself")
    parser.add_argument("--write", action="store_true", help="write docs/results/inspection-controls.md")
    arguments = parser.parse_args()
    lines = [line for name in CELLS for line in _halves_lines(name, arguments.draws, arguments.full)]
    lines += [_twin_line(name) for name in TWINS]
    print(*lines, sep="\n")
    if arguments.write:
        command = f"python examples/inspection_controls.py --draws {arguments.draws} --full {arguments.full} --write"
        put(
            PAGE,
            "Controls of comparing inspections",
            "controls",
            "\n".join([f"`{command}`:", "", *(f"- {line}" for line in lines)]),
        )


def _halves_lines(name: str, draws: int, full: int) -> Iterator[str]:
    model = batteries.PatchSVAE.from_cell(registry.load(name))
    probe = batteries.probe("noise16-64")
    (column,) = diagnostics.inspect(model, probe).columns
    clean, which = draws_without_mark(column, probe.group, draws)
    named = f"; marked elsewhere: {', '.join(f'{figure} ({count})' for figure, count in which.most_common(4))}" if which else ""
    yield f"two halves of noise16-64, {name}: nothing marked in {clean} of {draws} draws{named}"
    if full:
        found = [marked_halves(model, probe, seed) for seed in range(full)]
        yield f"the same, each half inspected by itself: nothing marked in {sum(not one for one in found)} of {full} draws"


def _twin_line(name: str) -> str:
    marked = marked_twin(registry.load(name))
    words = [
        f"{title} {'marked' if title in marked else 'not marked'}"
        for title in ("MSE", "read-out of omega", "CV of rows", "axial CV of rows")
    ]
    return f"{name} and its untrained twin on its own probe: {', '.join(words)}"


if __name__ == "__main__":
    main()
