"""Report of an audit: four diagnostics with values, thresholds, intervals and reasons, and the verdict that they carry."""

from __future__ import annotations

from collections.abc import Sequence

from batteries import short_repr
from batteries.cell.manifest import Count, Sha256, Text
from batteries.io.canonical_json import Document
from composer.audit.thresholds import Key, Threshold, Thresholds

TRUSTWORTHY = "trustworthy"


class StateReading(Document):
    """One place of the stream.

    Attributes:
        name: Name of the block that leaves it; ``input`` for h_0.
        norm: Mean norm of the state over samples.
        growth: Norm over the one before the block; None for h_0.
        growth_lower: Lower 95% bound of the growth, over batches.
        growth_upper: Upper 95% bound.
        gradient: Median over samples of the gradient's norm, as (b) takes it.
        gradient_lower: Lower 95% bound of the gradient, over batches.
        gradient_upper: Upper 95% bound.

    >>> import torch
    >>> from composer import audit, hosts
    >>> host = hosts.ResidualMLP(8, 3, hosts.StreamForm(width=32, blocks=2))
    >>> report = audit.audit(host, audit.batched(torch.randn(90, 8), torch.arange(90) % 3, size=30))
    >>> [state.name for state in report.states]
    ['input', 'blocks.0', 'blocks.1']
    """

    name: Text
    norm: float
    growth: float | None
    growth_lower: float | None
    growth_upper: float | None
    gradient: float
    gradient_lower: float
    gradient_upper: float


class Diagnostic(Document):
    """One diagnostic of an audit.

    Attributes:
        key: Letter of the diagnostic.
        name: Name of the diagnostic.
        value: Value; None if it was not measured.
        lower: Lower 95% bound over batches.
        upper: Upper 95% bound.
        threshold: Threshold with its source.
        fired: True if the value is beyond the threshold; None if it was not measured.
        clear: True if the whole interval lies on the same side of the threshold as the value.
        decides: True if the verdict depends on it.
        where: Block that the value is of, if it is of one.
        reason: Reason in words.

    >>> import torch
    >>> from composer import audit, hosts
    >>> host = hosts.ResidualMLP(8, 3, hosts.StreamForm(width=32, blocks=2))
    >>> report = audit.audit(host, audit.batched(torch.randn(90, 8), torch.arange(90) % 3, size=30))
    >>> report.of("a").name, report.of("a").threshold.value
    ('largest growth of one block', 50.0)
    """

    key: Key
    name: Text
    value: float | None
    lower: float | None
    upper: float | None
    threshold: Threshold
    fired: bool | None
    clear: bool | None
    decides: bool
    where: Text | None
    reason: Text


class AuditReport(Document):
    """Audit of a host on held-out batches.

    Attributes:
        host: Class of the host.
        data: SHA-256 of inputs and targets.
        batches: Number of batches.
        samples: Number of samples.
        accuracy: Mean score of the batches: accuracy, or R2 if values are restored.
        accuracy_lower: Lower 95% bound of the accuracy.
        accuracy_upper: Upper 95% bound.
        baseline: Mean score of the baseline; None without one.
        relative: Gradient of (b) over the same before the first step; None if that is not known.
        thresholds: Thresholds of the audit.
        states: Places h_0 ... h_L of the stream.
        diagnostics: The four diagnostics.

    >>> import torch
    >>> from composer import audit, hosts
    >>> host = hosts.ResidualMLP(8, 3, hosts.StreamForm(width=32, blocks=2))
    >>> report = audit.audit(host, audit.batched(torch.randn(90, 8), torch.arange(90) % 3, size=30))
    >>> report.verdict, report.fired
    ('trustworthy', ())
    """

    host: Text
    data: Sha256
    batches: Count
    samples: Count
    accuracy: float
    accuracy_lower: float
    accuracy_upper: float
    baseline: float | None
    relative: float | None
    thresholds: Thresholds
    states: tuple[StateReading, ...]
    diagnostics: tuple[Diagnostic, ...]

    @property
    def fired(self) -> tuple[Key, ...]:
        """Diagnostics that fired."""
        return tuple(one.key for one in self.diagnostics if one.fired)

    @property
    def trustworthy(self) -> bool:
        """True if no diagnostic that decides has fired."""
        return not any(one.fired and one.decides for one in self.diagnostics)

    @property
    def verdict(self) -> str:
        """Verdict, with the diagnostics that carry it; (c) is named beside others only."""
        return TRUSTWORTHY if self.trustworthy else f"walked back by {', '.join(self.fired)}"

    def of(self, key: Key) -> Diagnostic:
        """Return a diagnostic by its letter."""
        return next(one for one in self.diagnostics if one.key == key)

    def table(self) -> str:
        """Return the diagnostics as a table of text."""
        rows = [("", "diagnostic", "value", "95%", "threshold", "fired", "reason")]
        for one in self.diagnostics:
            bounds = "" if one.lower is None or one.upper is None else f"{one.lower:.3g} to {one.upper:.3g}"
            value = "-" if one.value is None else f"{one.value:.4g}"
            word = {None: "not measured", True: "yes", False: "no"}[one.fired] + (
                "" if one.clear in (None, True) else ", unclear"
            )
            rows.append((one.key, one.name, value, bounds, f"{one.threshold.value:g}", word, one.reason))
        return "\n".join([f"{self.host}: {self.verdict}", *_aligned(rows)])

    def __repr__(self) -> str:
        return short_repr.headed(self, f"{self.host}: {self.verdict}", short_repr.counted(self.samples, "sample"))


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
