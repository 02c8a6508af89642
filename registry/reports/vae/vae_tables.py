"""Tables of a battery VAE for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batteries.geometry.attractor import sphere_cv
from composer.vae.reading_document import PLACES, SectorReading, VaeReading
from registry.reports.fitted_table import FittedTable
from registry.reports.number_format import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.answers.vae import ShownVae

NOTHING = "-"
SECTOR_COLUMNS = ("sector", "weight", "error", "active", *(f"CV, {place}" for place in PLACES), "exact CV", "gradient")


def sectors(reading: VaeReading, widths: Mapping[str, int]) -> FittedTable:
    """Tabulate the sectors of a reading: weight, error, active units, CV at each place beside the exact one."""
    table = FittedTable(*SECTOR_COLUMNS, optional=("gradient", "error", "active"))
    for one in reading.sectors:
        table.add_row(*sector_row(one, widths[one.name]))
    return table


def sector_row(one: SectorReading, width: int) -> tuple[str, ...]:
    """Return the cells of a sector's row."""
    exact = None if one.cv is None else sphere_cv(width)
    cvs = [NOTHING] * len(PLACES) if one.cv is None or exact is None else [number(ratio * exact) for ratio in one.cv]
    gradient = NOTHING if one.gradient is None else number(one.gradient)
    exactly = NOTHING if exact is None else number(exact)
    return (one.name, number(one.weight), number(one.error), f"{one.active:.0%}", *cvs, exactly, gradient)


def facts(found: ShownVae) -> dict[str, str]:
    """Return names and values of the model and its reading."""
    reading = found.reading
    steps = sum(run.steps for run in found.history)
    return {
        "sectors": str(len(found.parents)),
        "parameters": f"{found.parameters:,}",
        "code of a patch and sector": f"{found.bottleneck} numbers",
        "arrays of a sector": str(found.arrays),
        "linear": f"{found.linear_parameters:.1%} of parameters, {found.linear_multiply_adds:.1%} of multiply-adds",
        "steps": f"{steps:,}",
        "probe": found.probe,
        "MSE": number(reading.error),
        "KL, nats per value": number(reading.divergence),
        "ELBO, nats per value": elbo(reading),
        "active units": f"{reading.active:.0%}",
    }


def elbo(reading: VaeReading) -> str:
    """Format an evidence lower bound with its standard error."""
    error = "" if reading.elbo_standard_error is None else f" ± {number(reading.elbo_standard_error)}"
    return f"{number(reading.elbo)}{error}"


def fact_table(found: ShownVae) -> FittedTable:
    """Tabulate the facts of a model."""
    table = FittedTable("figure", "value")
    for name, value in facts(found).items():
        table.add_row(name, value)
    return table
