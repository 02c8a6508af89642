"""Figures of many adoptions: linear codes and untrained nulls once per spec; figures that were kept are not measured again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from batteries import __version__, short_repr
from batteries.cell import weights_file
from batteries.cell.manifest import InputScale, Measured
from batteries.cell.spec import CellSpec
from batteries.data.probes import Probe
from batteries.data.sources import Source
from batteries.engine.torch_settings import neutral
from batteries.io import canonical_json
from batteries.io.canonical_json import AnyDocument
from batteries.measurement.baselines import LinearCode
from batteries.model.patch_svae import load_weights, untrained
from batteries.packaging import package
from batteries.packaging.foreign_cell import Adoptable
from batteries.packaging.package import Figures


class Recall(Protocol):
    """Function that returns the result that is kept under a key, or computes it."""

    def __call__(self, kind: type[AnyDocument], key: Mapping[str, Any], make: Callable[[], AnyDocument]) -> AnyDocument:
        """Return the result under a key, or that of ``make``."""
        ...


def _compute(kind: type[AnyDocument], key: Mapping[str, Any], make: Callable[[], AnyDocument]) -> AnyDocument:
    return make()


@dataclass
class SharedFigures:
    """Figures that adoptions share, and those that earlier runs have kept.

    Attributes:
        recall: Function that finds kept figures by all that they depend on; by default nothing is kept.
        measured: Cells measured here, rather than recalled.
    """

    recall: Recall = _compute
    measured: int = 0
    _codes: dict[str, LinearCode] = field(default_factory=dict)
    _nulls: dict[str, Measured] = field(default_factory=dict)

    __repr__ = short_repr.fields

    @neutral()
    def figures(self, found: Adoptable, source: Source, input: InputScale, *, where: object) -> Figures:
        """Return the figures of a checkpoint: kept ones, or measured ones.

        Args:
            found: Checkpoint.
            source: Images of the cell's own domain.
            input: Scale of its images.
            where: Name of the cell in messages.

        Raises:
            PolicyError: degenerate CV (``NO_BAND``).
        """
        own = package.own_probe_of(source.facts, found.size)
        common = _key(found.spec, found.size, source, input, own)
        key = {**common, "tensors": weights_file.tensor_digest(found.arrays)}
        return self.recall(Figures, key, lambda: self._measure(found, source, input, own, common, where))

    def _measure(
        self, found: Adoptable, source: Source, input: InputScale, own: Probe, key: Mapping[str, Any], where: object
    ) -> Figures:
        code = self._code(found.spec, found.size, source)
        model = load_weights(untrained(found.spec, 0), found.arrays)
        figures = package.measured_figures(
            model, own, code=code, null=lambda: self._null(found.spec, own, code, input, key), input=input, where=where
        )
        self.measured += 1
        return figures

    def _code(self, spec: CellSpec, size: int, source: Source) -> LinearCode:
        key = _digest({"spec": spec.model_dump(mode="json"), "size": size, "source": source.facts.model_dump(mode="json")})
        if key not in self._codes:
            code = package.linear_code(spec, size, 0, source)
            self._codes[key] = replace(code, fitted_on=f"at adoption: {source.facts.description}"[:2000])
        return self._codes[key]

    def _null(self, spec: CellSpec, own: Probe, code: LinearCode, input: InputScale, key: Mapping[str, Any]) -> Measured:
        name = _digest(key)
        if name not in self._nulls:
            self._nulls[name] = self.recall(Measured, key, lambda: package.untrained_figures(spec, own, 0, code, input))
        return self._nulls[name]


def _key(spec: CellSpec, size: int, source: Source, input: InputScale, own: Probe) -> dict[str, Any]:
    """Return all that the figures of an untrained cell depend on."""
    documents = {"spec": spec, "source": source.facts, "input": input}
    return {
        **{name: one.model_dump(mode="json") for name, one in documents.items()},
        "size": size,
        "probe": own.digest,
        "package": __version__,
        "torch": torch.__version__,
    }


def _digest(value: Any) -> str:
    return canonical_json.sha256(canonical_json.dump(value))
