"""Kernels of encoders and decoders against torch's batched products, on one thread, as in a piece of a container."""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange

import composer
import registry
from batteries import threads
from batteries.model import spectral
from batteries.noise import random_batch
from benchmarks.harness import Pair
from composer.container import encoder_decoder
from composer.container.batched_forward import Stage

BANDS = {"low": "low/johanna-64", "high": "high/johanna-64"}


def pairs(smoke: bool) -> list[Pair]:
    """Return both halves of both bands, for four cells and 16 images."""
    found = []
    for band, name in BANDS.items():
        cells = registry.pull(name)
        container = composer.compose({f"cell-{n}": cells[0] for n in range(4)})
        stage = Stage(cells[0].spec, container.groups[0].stack.chosen(range(4)), compiled=False)
        images = random_batch(1 if smoke else 16, (64, 64), 0)[0]
        for half, ours, theirs in _halves(stage, images):
            found.append(Pair(f"{half} of 4 {band.upper()} cells, {len(images)} of 64x64", _alone(ours), _alone(theirs)))
    return found


def _halves(stage: Stage, images: torch.Tensor) -> list[tuple[str, Callable[[], object], Callable[[], object]]]:
    spec, weights, grid = stage.spec, stage.weights, stage.spec.grid(*images.shape[2:])
    p = spec.patch_size
    patches = rearrange(images, "B c (gh p) (gw q) -> (B gh gw) (c p q)", p=p, q=p)
    with torch.no_grad():
        M = stage.matrices(images)
        gated = stage.bottleneck.gated(M, stage)
    rows = (len(weights["enc_in.bias"]), -1, spec.V, spec.D)
    return [
        (
            "encoders, rows of unit length,",
            lambda: encoder_decoder.encode(spec, weights, patches),
            lambda: spectral.unit_rows(stage.encoded(patches).view(rows)),
        ),
        (
            "gate and decoders",
            lambda: encoder_decoder.decode(spec, weights, M, gated.axes, gated.ratio, grid),
            lambda: stage.decoded(gated.matrices(), grid).contiguous(),
        ),
    ]


def _alone(call: Callable[[], object]) -> Callable[[], object]:
    """Limit a call to one thread, like a piece, without gradients."""

    @torch.no_grad()
    def run() -> object:
        with threads(1):
            return call()

    return run
