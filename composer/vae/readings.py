"""Reading of a battery VAE on held-out images: error, divergence, evidence lower bound, active units, CV of every sector."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from batteries.data.probes import Probe
from batteries.geometry.estimates import clustered_mean
from batteries.measurement.measure import finite_or_none
from composer.vae.battery_vae import BatteryVAE, VaeOutput
from composer.vae.objective import cv_ratios
from composer.vae.reading_document import SectorReading, VaeReading

IMAGES = 32  # of a probe, spread evenly over it
PIECE = 8  # images at a time
MATRICES = 64  # of each sector, for its CV
ACTIVE = 0.01  # least variance of a code's mean (Burda, Grosse and Salakhutdinov 2016)
DRAWS = 31  # seed of codes and simplices: the same in every reading


@torch.no_grad()
def read(vae: BatteryVAE, probe: Probe, kl: float, step: int = 0, gradients: dict[str, float] | None = None) -> VaeReading:
    """Read a model.

    Args:
        vae: Model.
        probe: Held-out images, of which 32 are read.
        kl: Weight of the divergence in the plan.
        step: Step of the reading.
        gradients: Norm of the gradient of each sector at that step.

    >>> import batteries, composer, registry
    >>> vae = composer.BatteryVAE.from_cells(registry.pull("high/fresnel-64", "high/johanna-64"), bottleneck=8)
    >>> reading = composer.vae.read(vae, batteries.probe("photos-64"), kl=1e-4)
    >>> [one.name for one in reading.sectors]
    ['high/fresnel-64', 'high/johanna-64']
    """
    images, cluster = few(probe)
    found = [_read_some(vae, part, Generator().manual_seed(DRAWS + place)) for place, part in enumerate(images.split(PIECE))]
    drawn, errors, nats = (torch.cat([getattr(one, key) for one in found]) for key in ("drawn", "errors", "nats"))
    elbo = clustered_mean(-(drawn / kl + math.log(math.pi * kl) / 2 + nats).double(), cluster)
    active = torch.cat([_active(torch.cat(own, dim=1)) for own in zip(*(one.means for one in found), strict=True)])
    weights, single = (torch.stack([getattr(one, key) for one in found]).mean(dim=0) for key in ("weights", "single"))
    sectors = tuple(
        SectorReading(
            name=name,
            cv=found[0].cvs[place],
            active=float(active[place]),
            weight=float(weights[place]),
            error=float(single[place]),
            gradient=(gradients or {}).get(name),
        )
        for place, name in enumerate(vae.names)
    )
    return VaeReading(
        step=step,
        error=float(errors.mean()),
        divergence=float(nats.mean()),
        elbo=elbo.value,
        elbo_standard_error=finite_or_none(elbo.standard_error),
        active=float(active.mean()),
        sectors=sectors,
    )


def few(probe: Probe) -> tuple[Tensor, Tensor]:
    """Return the images (B, channels, height, width) of a probe that are read, and their clusters (B,)."""
    chosen = torch.linspace(0, len(probe.images) - 1, min(IMAGES, len(probe.images))).round().long()
    return probe.images[chosen], probe.cluster[chosen]


class _Some(NamedTuple):
    """Figures of some images: errors and nats (B,), means of codes by part, CVs, mean weights and errors (S,) of sectors."""

    drawn: Tensor
    errors: Tensor
    nats: Tensor
    means: list[Tensor]
    cvs: list[tuple[float, float, float] | None]
    weights: Tensor
    single: Tensor


def _read_some(vae: BatteryVAE, images: Tensor, draws: Generator) -> _Some:
    out = vae(images, draws)
    plain = vae.decode([code.mu for code in out.codes], (images.shape[2], images.shape[3]))
    nats = torch.stack([code.divergence().sum(dim=(0, 2, 3)) for code in out.codes]).sum(dim=0) / images[0].numel()
    single = torch.cat([(own - images).square().mean(dim=(1, 2, 3, 4)) for own in plain.single])
    cvs = _cvs(vae, out, draws)
    drawn, errors = _errors(out.decoded.images, images), _errors(plain.images, images)
    return _Some(drawn, errors, nats, [code.mu for code in out.codes], cvs, plain.weights.mean(dim=(0, 1)), single)


def _active(means: Tensor) -> Tensor:
    """Return the share (C,) of active numbers of means (C, B, N, Z)."""
    return (means.flatten(1, 2).var(dim=1) > ACTIVE).float().mean(dim=1)


def _cvs(vae: BatteryVAE, out: VaeOutput, draws: Generator) -> list[tuple[float, float, float] | None]:
    """Return CV / exact of each sector at the encoder, the inverse and the arrays."""
    found: list[tuple[float, float, float] | None] = []
    for part, ratios in zip(vae.parts, cv_ratios(vae, out, draws, MATRICES), strict=True):
        rows = [None] * len(part.names) if ratios is None else [(a, b, c) for a, b, c in ratios.T.tolist()]
        found += rows
    return found


def _errors(recon: Tensor, images: Tensor) -> Tensor:
    return (recon - images).square().mean(dim=(1, 2, 3))
