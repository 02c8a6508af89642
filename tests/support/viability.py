"""A viability test that is a matter of seconds, on few images: its verdicts mean nothing."""

import dataclasses

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
