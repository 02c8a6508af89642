"""Power of the checks that need no host: every negative control on a cell of each band and domain, over seeds.

    python examples/controls.py [--seeds 20]   # writes docs/results/controls.md; about half an hour on one core

The figures of untrained cells are those of the quick profile, which ship with the package. The untrained control against the
lifts of hosts is in docs/results/viability.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from pages import RESULTS, put, table, wilson

import batteries
import registry
from batteries.model.patch_svae import PatchSVAE
from registry.checks.claims import Reference
from registry.viability.controls import NAMED_CHECK
from registry.viability.result_cache import ResultCache
from registry.viability.runner import NullFigures, Runner, measurement
from registry.viability.tasks import own_hosts, own_tasks
from registry.viability.unhosted import named_check, unhosted

CELLS = ("low/fresnel-256", "low/johanna-64", "mid/fresnel-64", "mid/johanna-64", "high/fresnel-64", "high/freckles-64")
SHOWN = ("rows", "error, worst type", "error, worst image", "error, mirrored", "read-out, M", "read-out, omega")
PROTOCOL = registry.PROFILES["quick"]


def runner_of(reference: str) -> tuple[Runner, NullFigures]:
    """Prepare the parts of a cell's test without a cache on disk, and its null."""
    cell = registry.load(reference)
    own = batteries.probe(cell.manifest.own_probe)
    tasks = own_tasks(own, PROTOCOL, 0)
    runner = Runner(cell, PROTOCOL, own, tasks, own_hosts(PROTOCOL), 0, ResultCache(), lambda words, done, parts: None)
    return runner, runner.null()


def rejections(reference: str, seeds: int) -> Iterator[list[str]]:
    """Count, for each control, the seeds with which its named check rejects it."""
    runner, null = runner_of(reference)
    own = measurement(runner.read(PatchSVAE.from_cell(runner.cell)), runner.probe)
    known = Reference.measured(own.mse, own.axial_cv)
    for control, named in NAMED_CHECK.items():
        count = 0
        for seed in range(seeds):
            runner.seed = seed
            count += named_check(runner, control, named, null, known).passed is False
        low, high = wilson(count, seeds)
        print(f"{reference}, {control}: {count} of {seeds}", flush=True)
        yield [reference, control, named.replace(", ", " "), f"{count} of {seeds}", f"{low:.3f} to {high:.3f}"]


def figures(reference: str) -> list[str]:
    """Return the figures of a cell's content checks, with the bound that counts, and the checks without a host that fail."""
    runner, null = runner_of(reference)
    found = {
        check.name: check for check in unhosted(runner, runner.cell, PatchSVAE.from_cell(runner.cell), runner.reading, null)[0]
    }
    shown = (f"{found[name].value:.3g} ({found[name].upper:.3g})" for name in SHOWN)
    failed = [name.replace(", ", " ") for name, check in found.items() if check.decides and not check.passed]
    return [reference, *shown, "; ".join(failed) or "none"]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Power of the checks that need no host.")
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="number of seeds; default: 20")
    seeds = parser.parse_args().seeds
    head = ["cell", "control", "check", "rejected", "95% bounds (Wilson)"]
    put(
        RESULTS / "controls.md", "Controls", "controls", table(head, [row for name in CELLS for row in rejections(name, seeds)])
    )
    cells = [str(one.reference) for one in registry.find("*", registry="embedded")]
    head = ["cell", *(name.replace(", ", " ") for name in SHOWN), "failed without a host"]
    put(RESULTS / "controls.md", "Controls", "cells", table(head, [figures(name) for name in cells]))


if __name__ == "__main__":
    main()
