"""Answer of diagnose under ``--json``, also the source of its table; its schema is in ``docs/schema`` as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from batteries.cell.manifest import Count, Domain, NoiseMix, Positive
from registry.answers.answer import Answer, finite

if TYPE_CHECKING:
    from batteries.diagnostics import Diagnosis, Finding


class DiagnosisFigure(Answer):
    """A figure of a cell, and the same of untrained cells and of the linear code.

    Attributes:
        section: Section of the diagnosis.
        key: Key of its definition.
        title: Name of its definition.
        place: Kind of images, size or level that it is of; empty if there is one only.
        formula: Formula, a line.
        value: Value; None if it is undefined.
        standard_error: Standard error, clustered by image; None of an exact figure and of a single cluster.
        low: Lower 95% bound; None without a standard error.
        high: Upper 95% bound; None without a standard error.
        tolerance: Largest value that rounding explains, of an exact figure.
        undefined: Reason why it has no value; empty if it has one.
        untrained: Values of untrained cells of the spec; None where undefined or not asked.
        linear: Value of the linear code; None if it has none.
    """

    section: str
    key: str
    title: str
    place: str
    formula: str
    value: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    tolerance: float | None
    undefined: str
    untrained: tuple[float | None, ...]
    linear: float | None

    @classmethod
    def of(cls, found: Finding) -> Self:
        """Return the answer's form of a finding."""
        figure, definition = found.figure, found.figure.definition
        return cls(
            section=definition.stage,
            key=definition.key,
            title=definition.title,
            place=figure.place,
            formula=definition.formula,
            value=figure.value,
            standard_error=finite(figure.standard_error),
            low=finite(found.low),
            high=finite(found.high),
            tolerance=figure.tolerance,
            undefined=figure.undefined,
            untrained=found.untrained,
            linear=found.linear,
        )


class DiagnoseAnswer(Answer):
    """Answer of ``batteries diagnose``.

    Attributes:
        reference: Cell.
        sha256: Digest of its file.
        home: Domain that it learned.
        size: Side of its training images in pixels.
        mix: Mix of the known noise.
        verdict: Specialist, generalist or undecided.
        bound: Ratio of errors that the verdict rests on.
        source: Source of the bound.
        untrained: Verdicts of untrained cells of the spec.
        linear: Verdict of the linear code.
        linear_width: Number of its components.
        figures: All figures, by section.
        laws: Names of the known noise laws.
        confusion: Number of test images of each law, in rows, by the name that omega gives them.
    """

    reference: str
    sha256: str
    home: Domain
    size: Positive
    mix: NoiseMix
    verdict: str
    bound: float
    source: str
    untrained: tuple[str, ...]
    linear: str
    linear_width: Positive
    figures: tuple[DiagnosisFigure, ...]
    laws: tuple[str, ...]
    confusion: tuple[tuple[Count, ...], ...]

    @classmethod
    def of(cls, reference: str, sha256: str, found: Diagnosis) -> Self:
        """Return the answer of a diagnosis."""
        return cls(
            reference=reference,
            sha256=sha256,
            home=found.setting.home,
            size=found.setting.size,
            mix=found.setting.mix,
            verdict=found.verdict.word,
            bound=found.verdict.bound,
            source=found.verdict.source,
            untrained=found.untrained,
            linear=found.linear,
            linear_width=found.linear_width,
            figures=tuple(map(DiagnosisFigure.of, found.findings)),
            laws=found.laws,
            confusion=tuple(tuple(row) for row in found.confusion.tolist()),
        )

    def section(self, name: str) -> tuple[DiagnosisFigure, ...]:
        """Return the figures of a section."""
        return tuple(one for one in self.figures if one.section == name)

    def of_key(self, key: str) -> tuple[DiagnosisFigure, ...]:
        """Return the figures of a definition, one a place."""
        return tuple(one for one in self.figures if one.key == key)


DIAGNOSING: dict[str, type[Answer]] = {"diagnose": DiagnoseAnswer}
