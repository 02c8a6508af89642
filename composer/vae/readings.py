"""Reading of a battery VAE on held-out images: error, divergence, evidence lower bound, active units, CV of every sector."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from batteries.data.probes import Probe
from batteries.geometry.estimates import clustered_mean
from batteries.io.canonical_json import Document
from batteries.measurement.measure import finite_or_none
from composer.vae.battery_vae import BatteryVAE, VaeOutput
from composer.vae.objective import PLACES, cv_ratios

IMAGES = 32  # of a probe, spread evenly over it
PIECE = 8  # images at a time
MATRICES = 64  # of each sector, for its CV
ACTIVE = 0.01  # least variance of a code's mean (Burda, Grosse and Salakhutdinov 2016)
DRAWS = 31  # seed of codes and simplices: the same in every reading


class SectorReading(Document):
    """Reading of one sector.

    Attributes:
        name: Name of the sector.
        cv: CV / exact attractor of the encoder's rows, the inverse's rows and the arrays; None where D has no CV.
        active: Share of the numbers of its code that are active.
        weight: Mean weight in the reconstruction.
        error: Mean squared error of the sector alone.
        gradient: Norm of its gradient at the last step; None before the first.
    """

    name: str
    cv: tuple[float, float, float] | None
    active: float
    weight: float
    error: float
    gradient: float | None


class VaeReading(Document):
    """Reading of a model on held-out images.

    Attributes:
        step: Step.
        error: Mean squared error of reconstructions from the means of the codes.
        divergence: KL in nats per value of an image.
        elbo: Evidence lower bound in nats per value, of normal errors with the variance kl / 2 of the plan.
        elbo_standard_error: Its standard error, clustered by photograph; None for fewer than two clusters.
        active: Share of all numbers of the codes whose mean varies by more than 0.01 over patches and images.
        sectors: Readings of the sectors.
    """

    step: int
    error: float
    divergence: float
    elbo: float
    elbo_standard_error: float | None
    active: float
    sectors: tuple[SectorReading, ...]

    @property
    def scalars(self) -> dict[str, float]:
        """Figures by the names of a chart."""
        found = {"probe/mse": self.error, "probe/kl": self.divergence, "probe/elbo": self.elbo, "probe/active": self.active}
        for one in self.sectors:
            found |= {f"weight/{one.name}": one.weight, f"active/{one.name}": one.active}
            if one.cv is not None:
                found |= {f"cv/{place}/{one.name}": ratio for place, ratio in zip(PLACES, one.cv, strict=True)}
            if one.gradient is not None:
                found[f"gradient/{one.name}"] = one.gradient
        return found


@torch.no_grad()
def read(vae: BatteryVAE, probe: Probe, kl: float, step: int = 0, gradients: dict[str, float] | None = None) -> VaeReading:
    """Read a model.

    Args:
        vae: Model.
        probe: Held-out images, of which 32 are read.
        kl: Weight of the divergence in the plan.
        step: Step of the reading.
        gradients: Norm of the gradient of each sector at that step.
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
