"""Tokens without decoding, against the plain full forward pass; a file of tokens against the container alone. No gradient."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import composer
import registry
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
    return [*found, _file_of_tokens(images[:32])]


def _file_of_tokens(images: Tensor) -> Pair:
    """Line of a whole encoding; fsync is in it."""
    model = composer.compose(registry.pull("low/fresnel-256", "low/fresnel-64", "high/fresnel-64"))

    def ours() -> object:
        with tempfile.TemporaryDirectory() as folder:
            return composer.encode(model, images, Path(folder) / "tokens.npz", scale="noise")

    return Pair(
        f"composer.encode against the container alone, three cells, {len(images)} images", ours, partial(_run, model, images)
    )


@torch.no_grad()
def _run(model: composer.Container, images: Tensor) -> object:
    return [model(part, ("omega",)) for part in images.split(16)]


@torch.no_grad()
def _tokens(model: PatchSVAE, images: Tensor) -> object:
    return model.tokens(images)


@torch.no_grad()
def _reconstruct(model: PlainSVAE, images: Tensor) -> object:
    return model.reconstruct(images)
