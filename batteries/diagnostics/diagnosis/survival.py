"""Survival of a signal in noise, and the numbers that a cell keeps of a patch."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from batteries.cell.spec import CellSpec
from batteries.data.sources import seed_of
from batteries.diagnostics.diagnosis.coders import Coder, width_of
from batteries.diagnostics.diagnosis.findings import Finding, exact, plain
from batteries.diagnostics.diagnosis.kinds import Kind
from batteries.diagnostics.error_figures import variances
from batteries.diagnostics.figures import Definition, estimated
from batteries.engine.torch_settings import PINNED
from batteries.geometry import estimates

SURVIVAL, COMPRESSION = "survival", "compression"
FORMULA = "mean over photographs of corr({}, clean image) with Gaussian noise added, about the mean colour"
SIGNAL = Definition("signal", "reconstruction and clean", SURVIVAL, FORMULA.format("reconstruction"))
NOISY = Definition("noisy", "noisy and clean", SURVIVAL, FORMULA.format("noisy image"))
DECIBELS = (20, 10, 0, -10)  # ten times the logarithm of the variance of the image over that of the noise
NOISE_SEED = 37  # purpose in seed_of, distinct from others
NUMBERS_IN = Definition("numbers-in", "numbers of a patch", COMPRESSION, "channels p^2")
ROWS = Definition("numbers-rows", "numbers of M", COMPRESSION, "V (D - 1) of unit rows, V D of others")
NARROWEST = Definition(
    "numbers-least", "numbers of the narrowest layer", COMPRESSION, "min(hidden, numbers of M, numbers of a patch)"
)
TOKENS = Definition("numbers-omega", "numbers of omega", COMPRESSION, "D, which cannot be decoded alone")
RATIO = Definition("compression", "compression", COMPRESSION, "numbers of a patch / numbers of the narrowest layer; 1: none")
TO_OMEGA = Definition("compression-omega", "compression to omega", COMPRESSION, "numbers of a patch / D")


def survival(coder: Coder, photographs: Kind) -> list[Finding]:
    """Measure the correlation of reconstructions of noisy photographs with the clean ones."""
    clean = photographs.images
    findings = []
    for place, level in enumerate(DECIBELS):
        generator = Generator().manual_seed(seed_of(0, place, NOISE_SEED))
        size = (variances(clean) / 10 ** (level / 10)).sqrt().to(clean.dtype)[:, None, None, None]
        noisy = clean + size * torch.randn(clean.shape, generator=generator, **PINNED)
        for definition, found in ((SIGNAL, coder.reconstruct(noisy, photographs.fold)), (NOISY, noisy)):
            mean = estimates.clustered_mean(correlations(found, clean), photographs.cluster)
            findings.append(plain(estimated(definition, mean, f"{level} dB")))
    return findings


def correlations(found: Tensor, clean: Tensor) -> Tensor:
    """Return Pearson's correlation (B,) of images (B, channels, height, width), each about its mean colour; 0 of a constant."""
    first, second = ((images.double() - images.double().mean(dim=(2, 3), keepdim=True)).flatten(1) for images in (found, clean))
    norms = first.norm(dim=1) * second.norm(dim=1)
    return torch.where(norms > 0, (first * second).sum(dim=1) / norms.clamp_min(1e-300), 0.0)


def compression(spec: CellSpec) -> list[Finding]:
    """Count the numbers that a cell of a spec keeps of a patch."""
    free = spec.V * (spec.D - 1 if spec.row_norm == "sphere" else spec.D)
    least = min(spec.hidden, free, spec.patch_dim)
    values = {
        NUMBERS_IN: spec.patch_dim,
        ROWS: free,
        NARROWEST: least,
        TOKENS: spec.D,
        RATIO: spec.patch_dim / least,
        TO_OMEGA: spec.patch_dim / spec.D,
    }
    return [exact(definition, value) for definition, value in values.items()]


def linear_compression(spec: CellSpec) -> list[Finding]:
    """Count the numbers of the linear code that is compared with a cell."""
    width = width_of(spec)
    counted = {NUMBERS_IN: spec.patch_dim, NARROWEST: width, RATIO: spec.patch_dim / width}
    return [exact(definition, value) for definition, value in counted.items()]
