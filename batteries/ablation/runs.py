"""Runs of a program: plan, data and probe of each. Runs that differ in name alone are one computation."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from batteries.ablation.program import Group, Options, Program
from batteries.cell.manifest import DataSource
from batteries.cell.spec import TRUTH
from batteries.data.photos import Photos, read_photos
from batteries.data.probes import Probe, own_probe, probe
from batteries.data.sources import Source
from batteries.errors import BatteriesError, InputError
from batteries.training import checkpoint
from batteries.training.plan import Plan
from batteries.training.recipe import COMMAND, Recipe
from batteries.training.trainer import expected_band

LARGEST = 2**31
WORDS = {value: word for word, value in TRUTH.items()}


@dataclass(frozen=True)
class AblationRun:
    """A run of a program.

    Attributes:
        program: Name of the program.
        group: Id of its group.
        variant: Name of its variant.
        band: Name of its band.
        recipe: Options of ``batteries train`` that determine it.
        readings: Readings along the run.
    """

    program: str
    group: str
    variant: str
    band: str
    recipe: Recipe
    readings: int

    @property
    def name(self) -> str:
        """Name of the run, which is also that of its folder."""
        return f"{self.group}/{self.variant}/{self.band}"

    @property
    def command(self) -> str:
        """Command that trains the cell of the run."""
        words = [*COMMAND, self.recipe.reference]
        for field, value in self.recipe.model_dump(exclude_defaults=True, exclude={"reference"}).items():
            option = f"--{field.replace('_', '-')}"
            if isinstance(value, bool):  # True, as it is not the default
                words.append(option)
                continue
            for item in value if isinstance(value, tuple | list) else (value,):
                words += [option, f"{item}"]
        return shlex.join(words)

    @cached_property
    def plan(self) -> Plan:
        """Plan of the run, with readings evenly spaced, the last at its end; the report judges the band, not the triage."""
        plan = self.recipe.plan(None)
        every = even_spacing(plan.steps, self.readings)
        return plan.model_copy(update={"reading_every": every, "checkpoint_every": every, "triage_step": plan.steps + 1})

    @cached_property
    def source(self) -> Source:
        """Training data of the run."""
        return self.recipe.source(_photographs(self.recipe.photos) if self.recipe.photos else None)

    @cached_property
    def probe(self) -> Probe:
        """Probe of the run, which is that of its data."""
        facts = self.source.facts
        return probe(own_probe(facts.kind, self.plan.size, facts.noise_mix, facts.noise_types))

    @cached_property
    def identity(self) -> str:
        """Digest of plan, data and probe: equal for runs that differ in name alone."""
        return checkpoint.identity(self.plan, self.source.facts, self.probe.digest)

    def identity_in(self, recorded: DataSource) -> str:
        """Return the identity of a report that is only read: no place in its program is, which another may have written.

        Args:
            recorded: Training data of the report, which vouches for the photographs of a run that has any.
        """
        if not self.recipe.photos:
            return self.identity
        return checkpoint.identity(self.plan, recorded, probe(own_probe("photos", self.plan.size)).digest)


def runs_of(program: Program, groups: tuple[str, ...] = (), bands: tuple[str, ...] = ()) -> list[AblationRun]:
    """Return the runs of a program, of all groups and bands or of those named.

    Raises:
        InputError: no group (``NO_GROUP``) or band (``NO_BAND``) of that name; options or a spec that ``batteries train``
            refuses, with the name of the run.
    """
    return [
        _run(program, group, variant, band)
        for group, chosen in program.chosen(groups, bands)
        for variant in group.variants
        for band in chosen
    ]


def distinct(runs: Iterable[AblationRun]) -> dict[str, list[AblationRun]]:
    """Return runs by identity, in order: each entry is one computation."""
    found: dict[str, list[AblationRun]] = {}
    for run in runs:
        found.setdefault(run.identity, []).append(run)
    return found


def even_spacing(steps: int, readings: int) -> int:
    """Return the steps between readings of a run, at the multiples and at the end: that with the last gap most like the others.

    The number of readings is the one asked for where it divides the steps; otherwise one more or less may be more even.

    >>> [even_spacing(steps, 4) for steps in (1000, 10, 13, 3)]
    [250, 2, 5, 1]
    """

    def unevenness(every: int) -> tuple[float, int]:
        count = -(-steps // every)
        return 1 - (steps - (count - 1) * every) / every, abs(count - readings)

    counts = range(max(1, readings - 1), readings + 2)
    return min((-(-steps // count) for count in counts), key=unevenness)  # the smallest of a count has its widest last gap


@lru_cache(maxsize=8)  # else every run of a program would read and hold its own
def _photographs(places: tuple[str, ...]) -> Photos:
    return read_photos(*places)


def _run(program: Program, group: Group, variant: str, band: str) -> AblationRun:
    options = program.options_of(group, variant, band)
    where = f"{group.id}/{variant}/{band} of {program.name}"
    if stray := options.keys() - Recipe.model_fields.keys():
        expected = " | ".join(sorted(Recipe.model_fields))
        raise InputError("unknown option in a program", code="PROGRAM", expected=expected, found=min(stray), where=where)
    try:
        recipe = Recipe.of({"preset": band, **options, "set": _settings(options), "reference": "open/run"})
        spec = recipe.plan(None).spec
        spec.grid(recipe.size, recipe.size)
        if not recipe.photos:  # these are read when a run needs them
            recipe.source(None)
        label = f"{group.id}-{variant}-{band}".lower().replace("_", "-")
        recipe = recipe.model_copy(update={"reference": f"{expected_band(spec) or 'open'}/{label}"})
        run = AblationRun(program.name, group.id, variant, band, recipe, program.readings)
    except BatteriesError as error:
        error.where = where
        raise
    return run


def _settings(options: Options) -> Sequence[str]:
    """Return fields of a spec as ``NAME=VALUE``."""
    fields: dict[str, Any] = options.get("set", {})
    for name, value in fields.items():
        if isinstance(value, int) and abs(value) > LARGEST:  # its digits may be too many to write
            raise InputError(
                "too large a number for a field of a spec", code="SPEC", expected=f"at most {LARGEST:,}", where=name
            )
    return tuple(f"{name}={WORDS[value] if isinstance(value, bool) else value}" for name, value in fields.items())
