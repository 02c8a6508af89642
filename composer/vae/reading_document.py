"""Readings of a battery VAE, and the record of a training, as documents. Imports no torch."""

from __future__ import annotations

from batteries.cell.manifest import Count, DataSource, Text
from batteries.io.canonical_json import Document
from composer.vae.plan import VaePlan

PLACES = ("encoder", "inverse", "arrays")  # where the rows of a sector are disciplined and read


class SectorReading(Document):
    """Reading of one sector.

    Attributes:
        name: Name of the sector.
        cv: CV / exact attractor of the encoder's rows, the inverse's rows and the arrays; None where D has no CV.
        active: Share of the numbers of its code that are active.
        weight: Mean weight in the reconstruction.
        error: Mean squared error of the sector alone.
        gradient: Norm of its gradient at the last step; None before the first.

    >>> import batteries, composer, registry
    >>> vae = composer.BatteryVAE.from_cells(registry.pull("high/fresnel-64", "high/johanna-64"), bottleneck=8)
    >>> reading = composer.vae.read(vae, batteries.probe("photos-64"), kl=1e-4)
    >>> reading.sectors[0].name
    'high/fresnel-64'
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
        elbo_standard_error: Standard error of the bound, clustered by photograph; None for fewer than two clusters.
        active: Share of all numbers of the codes whose mean varies by more than 0.01 over patches and images.
        sectors: Readings of the sectors.

    >>> import batteries, composer, registry
    >>> vae = composer.BatteryVAE.from_cells(registry.pull("high/fresnel-64", "high/johanna-64"), bottleneck=8)
    >>> reading = composer.vae.read(vae, batteries.probe("photos-64"), kl=1e-4)
    >>> reading.step, reading.active > 0.5
    (0, True)
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


class TrainedRun(Document):
    """Record of a training.

    Attributes:
        plan: Settings.
        steps: Steps taken.
        data: Facts about the training images.
        probe: Name of the held-out images.
        readings: Readings on them.

    >>> import batteries, composer, registry
    >>> vae = composer.BatteryVAE.from_cells(registry.pull("high/fresnel-64", "high/johanna-64"), bottleneck=8)
    >>> plan = composer.vae.VaePlan(steps=1, size=16, batch=1)
    >>> run = composer.vae.train(vae, plan, batteries.NoiseSource(), "noise16-64")
    >>> vae.history[0].steps, vae.history[0].probe
    (1, 'noise16-64')
    """

    plan: VaePlan
    steps: Count
    data: DataSource
    probe: Text
    readings: tuple[VaeReading, ...]
