"""Tokens without decoding, against the plain full forward pass; no gradient."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from batteries import CellSpec, PatchSVAE, untrained
from batteries.noise import random_batch
from benchmarks.harness import Pair
from benchmarks.plain import PlainSVAE, plain

TARGET = 3.0


def pairs(smoke: bool) -> list[Pair]:
    """Return one pair per band."""
    images = random_batch(4 if smoke else 128, (64, 64), 0)[0]
    found = []
    for band in ("low", "high"):
        spec = CellSpec.preset(band)  # type: ignore[arg-type]
        ways = partial(_tokens, untrained(spec, 0), images), partial(_reconstruct, plain(spec, 0), images)
        found.append(Pair(f"tokens against the plain forward, {band.upper()}, batch {len(images)}", *ways, TARGET))
    return found


@torch.no_grad()
def _tokens(model: PatchSVAE, images: Tensor) -> object:
    return model.tokens(images)


@torch.no_grad()
def _reconstruct(model: PlainSVAE, images: Tensor) -> object:
    return model.reconstruct(images)
