"""Controls of ``batteries compare``: two random halves of one probe mark nothing, an untrained twin marks error and read-out.

    python examples/inspection_controls.py --draws 100 --write

Halves are drawn anew each time, as many images of every noise type in each; the first half goes to one side and the second to the
other, so that nothing differs but the images. With ``--write`` the figures go into docs/results/inspection-controls.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import torch

import batteries
import registry
from batteries import diagnostics

CELLS = ("low/johanna-64", "mid/johanna-64")
TWINS = ("high/freckles-64", "low/johanna-64", "low/fresnel-64")
PAGE = Path(__file__).parents[1] / "docs" / "results" / "inspection-controls.md"


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
    parser.add_argument("--draws", type=int, default=10, help="pairs of halves for each cell")
    parser.add_argument("--write", action="store_true", help="write docs/results/inspection-controls.md")
    arguments = parser.parse_args()
    lines = [_halves_line(name, arguments.draws) for name in CELLS]
    lines += [_twin_line(name) for name in TWINS]
    print(*lines, sep="\n")
    if arguments.write:
        command = f"python examples/inspection_controls.py --draws {arguments.draws} --write"
        head = ["# Controls of comparing inspections", "", f"Made by `{command}`.", ""]
        PAGE.write_text("\n".join([*head, *(f"- {line}" for line in lines)]) + "\n")


def _halves_line(name: str, draws: int) -> str:
    model = batteries.PatchSVAE.from_cell(registry.load(name))
    probe = batteries.probe("noise16-64")
    found = [marked_halves(model, probe, seed) for seed in range(draws)]
    which = Counter(figure for marked in found for figure in marked)
    named = f"; marked: {', '.join(f'{figure} ({count})' for figure, count in which.most_common())}" if which else ""
    return f"two halves of noise16-64, {name}: nothing marked in {sum(not marked for marked in found)} of {draws} draws{named}"


def _twin_line(name: str) -> str:
    marked = marked_twin(registry.load(name))
    words = [
        f"{title} {'marked' if title in marked else 'not marked'}"
        for title in ("MSE", "read-out of omega", "CV of rows", "axial CV of rows")
    ]
    return f"{name} and its untrained twin on its own probe: {', '.join(words)}"


if __name__ == "__main__":
    main()
