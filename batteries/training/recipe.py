"""Recipe of a run: the options of ``batteries train`` that determine it, as typed by a user and as recorded by a manifest.

Torch is imported only when the training data is made.
"""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError

import batteries
from batteries.cell.manifest import OWN_MIX, NoiseMix, Sha256
from batteries.cell.spec import CellSpec, Preset, changes_of
from batteries.errors import InputError
from batteries.io.canonical_json import Document, fields_of
from batteries.training.plan import Hand, Optimiser, Plan
from batteries.training.schedules import Schedule

if TYPE_CHECKING:
    from batteries.data.photos import Photos
    from batteries.data.sources import Source

COMMAND = ["batteries", "train"]
BARE: dict[str, str] = {"noise": OWN_MIX}  # value of an option that is given without one
REPEATED = {"photos", "set"}
LABELS = {"family", "description", "license"}  # options that describe the cell and do not change it


class Recipe(Document):
    """Options that determine a run, with the defaults of the command.

    Attributes:
        reference: ``band/name[@version]`` of the cell.
        steps: Optimiser steps.
        noise: Mix of the noise types to train on; None for photographs.
        types: Names of the noise types, separated by commas, in any order; by default all 16.
        photos: Folders or globs of photographs.
        allow_probe_photos: Whether to allow photographs of the probes.
        mix: Share of noise among photographs.
        augment: Whether images are also turned, and crops of photographs negated and their channels permuted.
        size: Side of the training images.
        batch: Images per step.
        optimiser: Optimiser of the weights.
        rate: Peak learning rate; by default that of the optimiser.
        momentum: Classical momentum of SGD; by default Nesterov's.
        schedule: Schedule of the learning rate.
        clip: Largest norm of the gradient, 0 for any; by default that of the optimiser.
        hand: Form of the soft hand.
        boost: Strength of the soft hand; by default that of its form.
        fixed_batch: Whether every step sees the images of the first.
        adaptive_clip: Whether a step's error above ``clip`` is the largest norm.
        later_boost: Strength of the soft hand from the middle of the run on.
        fixed_readout: Whether the matrices between M and the decoder keep their start.
        seed: Seed of the run.
        start: Reference or file of the cell to start from.
        teacher: Reference or file of the cell whose reconstructions are part of the target.
        distil: Share of these; by default the plan's.
        preset: Preset of the spec; by default that of the band.
        set: Fields of the spec in place of the preset's, as ``NAME=VALUE``.
        rows: V in an older command, which names it so.
        hidden: Hidden width in an older command, likewise.
        data_license: Licences of the photographs.
        data_source: Source of the photographs.
    """

    reference: str
    steps: int
    noise: NoiseMix | None = None
    types: str | None = None
    photos: tuple[str, ...] = ()
    allow_probe_photos: bool = False
    mix: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    augment: bool = False
    size: int = 64
    batch: int = 64
    optimiser: Optimiser = "adam"
    rate: float | None = None
    momentum: float | None = None
    schedule: Schedule = "onecycle"
    clip: float | None = None
    hand: Hand = "loss"
    boost: float | None = None
    fixed_batch: bool = False
    adaptive_clip: bool = False
    later_boost: float | None = None
    fixed_readout: bool = False
    seed: int = 0
    start: str | None = None
    teacher: str | None = None
    distil: float | None = None
    preset: Preset | None = None
    set: tuple[str, ...] = ()
    rows: int | None = None
    hidden: int | None = None
    data_license: str = "unknown"
    data_source: str = "unknown"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Recipe:
        """Build a recipe from options by name; None stands for the default, and other names are left out.

        Raises:
            InputError: invalid values (``USAGE``), or neither or both kinds of training data.
        """
        given = {name: value for name, value in options.items() if name in cls.model_fields and value is not None}
        try:
            recipe = cls.model_validate(given, strict=False)
        except ValidationError as error:
            raise InputError("invalid options", code="USAGE", found=fields_of(error)) from error
        stray = recipe.types is not None if recipe.photos else bool(recipe.mix)
        if bool(recipe.noise) == bool(recipe.photos) or stray:
            wanted = "--noise (with --types for some of its types), or --photos PLACE (with --mix for a share of noise)"
            raise InputError("missing or conflicting training data", code="USAGE", expected=wanted)
        return recipe

    @classmethod
    def parse(cls, command: str) -> Recipe:
        """Parse a command line as a manifest records it: with the long names of options.

        Raises:
            InputError: another command (``NO_RECIPE``), or invalid options (``USAGE``).

        >>> recipe = Recipe.parse("batteries train high/mine-64 --steps 4000 --noise --rate 0.003")
        >>> recipe.band, recipe.steps, recipe.rate
        ('high', 4000, 0.003)
        """
        try:
            words = shlex.split(command)
            if words[:2] != COMMAND or len(words) < 3:
                raise ValueError(command)
            options = _options(words[3:])
        except (ValueError, IndexError) as error:  # shlex and a missing value
            raise InputError(
                "no command that trains the cell", code="NO_RECIPE", expected="batteries train ...", found=command[:200]
            ) from error
        return cls.of({"reference": words[2], **options})

    @property
    def band(self) -> str:
        """Band in the name of the cell."""
        return self.reference.partition("/")[0]

    def plan(self, start: Sha256 | None, teacher: Sha256 | None = None) -> Plan:
        """Return the plan of the run.

        Args:
            start: Digest of the cell to start from.
            teacher: Digest of the teacher.

        Raises:
            InputError: unknown preset (``PRESET``), invalid spec (``SPEC``), or invalid options (``USAGE``).
        """
        older = [f"{field}={value}" for field, value in {"V": self.rows, "hidden": self.hidden}.items() if value is not None]
        spec = CellSpec.preset(self.preset or self.band, **changes_of([*older, *self.set]))  # type: ignore[arg-type]  # refuses an unknown one
        shared = Plan.model_fields.keys() & Recipe.model_fields.keys() - {"start", "teacher"}
        settings = {name: getattr(self, name) for name in shared}
        try:
            return Plan(spec=spec, start=start, teacher=teacher, **settings)
        except ValidationError as error:
            raise InputError("invalid options", code="USAGE", found=fields_of(error)) from error

    def source(self, photos: Photos | None) -> Source:
        """Return the training data.

        Args:
            photos: Photographs of the recipe's places; None for noise.

        Raises:
            InputError: no noise types of those names (``NOISE_TYPE``).
        """
        if photos is None:
            types = batteries.noise.NAMES if self.types is None else self.types.split(",")
            return batteries.NoiseSource(batteries.noise.indices_of(types), self.noise or OWN_MIX, self.augment)
        source = batteries.PhotoSource(photos, self.data_license, self.data_source, self.augment)
        return batteries.MixedSource(source, self.mix) if self.mix else source


def _options(words: list[str]) -> dict[str, Any]:
    """Return options by name, of a command line in the long form, in which each value follows its option."""
    found: dict[str, Any] = {}
    rest = deque(words)
    while rest:
        word = rest.popleft()
        name = word.removeprefix("--").replace("-", "_")
        if not word.startswith("--") or name not in Recipe.model_fields.keys() | LABELS:
            raise ValueError(word)
        if Recipe.model_fields.get(name) is not None and Recipe.model_fields[name].annotation is bool:
            found[name] = True
        elif name in REPEATED:
            found.setdefault(name, []).append(rest.popleft())
        elif name in BARE and (not rest or rest[0].startswith("--")):
            found[name] = BARE[name]
        else:
            found[name] = rest.popleft()
    return found
