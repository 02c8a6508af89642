"""Compute the results of untrained cells that ship with the package, for each spec and probe of the shipped cells.

    python examples/nulls.py [quick|standard ...]

One or two minutes for each spec and probe. Results that the file holds are kept, and those of other specs, probes or profiles
are dropped; without the file all are computed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import JsonValue

import batteries
import registry
from batteries.io import atomic_files, canonical_json
from batteries.io.canonical_json import AnyDocument
from registry.checks.protocol import Profile
from registry.viability import shipped_results
from registry.viability.result_cache import ResultCache
from registry.viability.runner import Runner
from registry.viability.tasks import own_hosts, own_tasks
from registry.viability.unhosted import CONTROL_SEED


@dataclass(frozen=True)
class Recorder(ResultCache):
    """A cache that computes every result that does not ship yet once, and keeps all under the addresses at which they ship."""

    results: dict[str, JsonValue] = field(default_factory=dict)

    def recall(self, kind: type[AnyDocument], key: Mapping[str, Any], make: Callable[[], AnyDocument]) -> AnyDocument:
        """Return the result that ships, or the one computed before, or that of ``make``."""
        address = shipped_results.address(kind, key)
        if address not in self.results:
            result = shipped_results.find(kind, key) or make()
            self.results[address] = result.model_dump(mode="json")
        return kind.model_validate_json(canonical_json.dump(self.results[address]))


def main(profiles: list[Profile]) -> None:
    """Compute the results of every cell of the embedded registry, and write the file after each cell."""
    recorder = Recorder()
    for profile in profiles or ["quick"]:
        for cell in registry.pull("*/*", registry="embedded"):
            record(cell, profile, recorder)
            document = shipped_results.ShippedResults.of(recorder.results, torch.__version__)
            atomic_files.replace(shipped_results.PATH, document.to_bytes())
            print(f"{profile} {cell.name}: {len(recorder.results)} results", flush=True)


def record(cell: batteries.Cell, profile: Profile, recorder: Recorder) -> None:
    """Compute the parts of a cell's test that do not depend on its weights."""
    protocol = registry.PROFILES[profile]
    own = batteries.probe(cell.manifest.own_probe)
    tasks = own_tasks(own, protocol, 0)
    runner = Runner(cell, protocol, own, tasks, own_hosts(protocol), 0, recorder, lambda words, done, parts: None)
    runner.null()
    runner.frozen(runner.untrained(CONTROL_SEED), 1, runner.deciding)
    runner.untrained_return()


if __name__ == "__main__":
    main(sys.argv[1:])  # type: ignore[arg-type]
