"""Small battery VAEs of untrained cells, for tests of what they do, not of what they are worth."""

from functools import cache

import torch

import batteries
from batteries import CellSpec, Probe
from batteries.io import canonical_json
from composer import BatteryVAE
from composer.vae import VaePlan
from tests.support.cells import from_model

FINE = CellSpec(V=12, D=4, patch_size=4, hidden=8, smooth_width=4)
COARSE = CellSpec(V=10, D=5, patch_size=8, hidden=6, smooth_width=4, depth=2, heads=1)
SPECS = {"fine-a": FINE, "coarse": COARSE, "fine-b": FINE}
PLAN = VaePlan(steps=4, size=16, batch=2, reading_every=2, checkpoint_every=2, warm_up=2)


@cache
def cells(specs=None):
    """Untrained cells by name."""
    chosen = SPECS if specs is None else dict(specs)
    return {name: from_model(spec, seed, name) for seed, (name, spec) in enumerate(chosen.items())}


def vae(bottleneck=8, arrays=2, seed=0) -> BatteryVAE:
    """Three sectors of two specs."""
    return BatteryVAE.from_cells(cells(), bottleneck=bottleneck, arrays=arrays, seed=seed)


def images(count=3, side=16, seed=0):
    """Images (count, 3, side, side) of noise."""
    return batteries.NoiseSource().batch(seed, count, side)


def probe(count=4, side=16) -> Probe:
    """Held-out images."""
    held = images(count, side, seed=99)
    return Probe("little", 1, "noise", held, torch.arange(count), (), canonical_json.sha256(held.numpy().tobytes()))


def same(first, second) -> bool:
    """Whether two models are the same, to the bit."""
    pairs = zip(first.named_parameters(), second.named_parameters(), strict=True)
    equal = all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
    return equal and (first.names, first.lock, first.history) == (second.names, second.lock, second.history)
