"""Figures of few images, and a viability test of seconds, whose verdicts mean nothing."""

import dataclasses
import sys

from batteries import CellSpec, probe
from registry.checks.protocol import PROFILES

QUICK = PROFILES["quick"]
TEST = QUICK.model_copy(
    update={
        "name": "test-1",
        "train": 64,
        "test": 64,
        "crops": 64,
        "width": 16,
        "blocks": 1,
        "host_steps": 3,
        "dose_rates": (1e-4, 1e-2),
        "dose_steps": 2,
        "reference_seeds": 2,
        "return_limit": 2,
        "return_every": 1,
    }
)


SPEC = CellSpec(V=12, D=4, patch_size=16, hidden=8)


def few(_):
    """Two images a type, in place of any probe."""
    whole = probe("noise16-64")
    return dataclasses.replace(whole, images=whole.images[::8], group=whole.group[::8], digest="1" * 64)


def one_of_a_group(name):
    """A probe with one image of each group."""
    whole, every = probe(name), 6 if name == "photos-64" else 16
    return dataclasses.replace(whole, images=whole.images[::every], group=whole.group[::every])


def measure_little(setattr):
    """Train, package and publish on one image of a group, and little of it; ``setattr`` as pytest's monkeypatch has it."""
    setattr("batteries.packaging.package.probe", one_of_a_group)
    setattr("registry.transfer.remeasure.probe", one_of_a_group)
    setattr(
        "batteries.training.trainer.probe_of", lambda given: one_of_a_group(given if isinstance(given, str) else given.name)
    )
    setattr("batteries.packaging.package.BASELINE_PATCHES", 512)
    setattr(sys.modules["batteries.measurement.measure"], "MATRICES", 64)
