"""Document of a battery VAE's file. Imports no torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from batteries.cell.manifest import InputScale, Positive
from batteries.cell.spec import CellSpec
from composer.artifact.form import ArtifactDocument
from composer.artifact.manifest import LISTED
from composer.artifact.model.document import SavedCell, Width
from composer.artifact.vae.manifest import VAE, Parent
from composer.sealed.file_format import Form
from composer.vae import shapes
from composer.vae.reading_document import TrainedRun
from composer.wiring.composition import MAX_ENTRIES

MOST_RUNS = 256
Entries = Annotated[int, Field(gt=0, le=MAX_ENTRIES)]


class SavedVae(ArtifactDocument):
    """Document of a battery VAE's file.

    Attributes:
        groups: Spec of each group.
        parents: Cells that the sectors started on, with their digests, which make up the lock. Sectors of one group are
            stacked in the order of the document.
        input: Input scale of the images.
        bottleneck: Numbers of a code of a patch and sector.
        arrays: Embedding arrays of each sector.
        history: Records of its trainings.

    >>> import composer, registry
    >>> vae = composer.BatteryVAE.from_cells(registry.pull("high/fresnel-64", "high/johanna-64"), bottleneck=8)
    >>> file = composer.save(vae, "pair.safetensors")
    >>> document = composer.read("pair.safetensors")
    >>> [*document.lock], document.bottleneck
    (['high/fresnel-64', 'high/johanna-64'], 8)
    """

    KIND = VAE
    SCHEMA_VERSION: ClassVar[str] = "1.0"

    schema_version: Literal["1.0"] = "1.0"
    groups: Annotated[tuple[CellSpec, ...], Field(min_length=1, max_length=MAX_ENTRIES)]
    parents: Annotated[tuple[SavedCell, ...], Field(min_length=2, max_length=MAX_ENTRIES)]
    input: InputScale
    bottleneck: Width
    arrays: Entries
    history: Annotated[tuple[TrainedRun, ...], Field(max_length=MOST_RUNS)]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        places = [parent.group for parent in self.parents]
        rules = {
            "a group without a sector, or a sector without a group": {*places} == {*range(len(self.groups))},
            "sectors that are not in the order of their groups": places == sorted(places),
            "two sectors of one name": len({parent.name for parent in self.parents}) == len(self.parents),
            "two groups of one spec": len({*self.groups}) == len(self.groups),
            "groups of different channels": len({spec.channels for spec in self.groups}) == 1,
            "rows not on the sphere": all(spec.row_norm == "sphere" for spec in self.groups),
            "codes wider than a matrix": all(self.bottleneck <= spec.V * spec.D for spec in self.groups),
        }
        for what, right in rules.items():
            if not right:
                raise ValueError(what)
        return self

    @property
    def lock(self) -> dict[str, dict[str, str]]:
        """Version and digests of each parent, by sector."""
        return {parent.name: parent.digests for parent in self.parents}

    @property
    def counts(self) -> dict[CellSpec, Positive]:
        """Number of sectors of each spec."""
        places = Counter(parent.group for parent in self.parents)
        return {spec: places[place] for place, spec in enumerate(self.groups)}

    def facts(self) -> dict[str, Any]:
        """Return the manifest's fields that are specific to battery VAEs."""
        last = next((run.readings[-1] for run in reversed(self.history) if run.readings), None)
        return {
            "groups": len(self.groups),
            "parameters": self.parameters,
            "channels": self.groups[0].channels,
            "input": self.input,
            "bottleneck": self.bottleneck,
            "arrays": self.arrays,
            "steps": sum(run.steps for run in self.history),
            "error": None if last is None else last.error,
            "elbo": None if last is None else last.elbo,
            "parents": tuple(Parent(name=one.name, cell=one.cell, version=one.version) for one in self.parents[:LISTED]),
        }

    @property
    def parameters(self) -> int:
        """Number of all parameters."""
        return sum(math.prod(shape) for _, _, shape in self.tensors())

    def tensors(self) -> Iterator[Form]:
        """Yield all parameters, by the names that they have in the model."""
        yield "log_sharpness", "F32", ()
        for place, (spec, count) in enumerate(self.counts.items()):
            for name, shape in shapes.part_shapes(spec, count, self.bottleneck, self.arrays).items():
                yield f"parts.{place}.{name}", "F32", shape
