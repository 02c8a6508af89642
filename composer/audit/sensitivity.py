"""Sensitivity of a set of audits to their thresholds: the range of each in which nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from batteries.io.canonical_json import Document
from composer.audit.report import AuditReport
from composer.audit.thresholds import ThresholdName, Thresholds

Range = tuple[float | None, float | None]


class Sensitivity(Document):
    """Range of one threshold, the others as they are.

    Attributes:
        threshold: Name of the threshold.
        value: Value of the threshold.
        lower: Lower end of the range in which no verdict of the set changes; None if there is none.
        upper: Upper end; None if there is none.
        own_lower: Lower end of the range in which the diagnostic itself changes for no host of the set.
        own_upper: Upper end.

    >>> from composer import audit
    >>> audit.sensitivity([], audit.Thresholds())[0].threshold
    'growth'
    """

    threshold: ThresholdName
    value: float
    lower: float | None
    upper: float | None
    own_lower: float | None
    own_upper: float | None


def sensitivity(reports: Sequence[AuditReport], thresholds: Thresholds) -> tuple[Sensitivity, ...]:
    """Find over which range of each threshold no verdict of a set of audits changes.

    A verdict is *trustworthy* or *walked back*. Where another diagnostic walks a host back anyway, the threshold may pass it.

    Args:
        reports: Audits.
        thresholds: Thresholds from which one is moved at a time.

    >>> import torch
    >>> from composer import audit, hosts
    >>> host = hosts.ResidualMLP(8, 3, hosts.StreamForm(width=32, blocks=2))
    >>> report = audit.audit(host, audit.batched(torch.randn(90, 8), torch.arange(90) % 3, size=30))
    >>> found = {one.threshold: one for one in audit.sensitivity([report], audit.Thresholds())}
    >>> 1.0 < found["growth"].lower < 2.0, found["growth"].upper, found["margin"].lower
    (True, None, None)
    """
    return tuple(_of(name, reports, thresholds) for name in READ)


def _of(name: ThresholdName, reports: Sequence[AuditReport], thresholds: Thresholds) -> Sensitivity:
    limit = getattr(thresholds, name).value
    known = [(report, value) for report in reports if (value := READ[name](report)) is not None]
    decided = [value for report, value in known if name in DECIDE and not _otherwise(name, report, thresholds)]
    lower, upper = _gap(name, decided, limit)
    own_lower, own_upper = _gap(name, [value for _, value in known], limit)
    return Sensitivity(threshold=name, value=limit, lower=lower, upper=upper, own_lower=own_lower, own_upper=own_upper)


def _gap(name: ThresholdName, values: Sequence[float], limit: float) -> Range:
    """Return the nearest values on either side of a threshold."""
    fires = ABOVE[name]
    under = [value for value in values if (value <= limit if fires else value < limit)]
    over = [value for value in values if (value > limit if fires else value >= limit)]
    return max(under, default=None), min(over, default=None)


def _otherwise(name: ThresholdName, report: AuditReport, thresholds: Thresholds) -> bool:
    """Tell whether a deciding diagnostic fires without this threshold."""
    return any(
        _beyond(other, value, getattr(thresholds, other).value)
        for other in DECIDE
        if other != name and (value := READ[other](report)) is not None
    )


def _beyond(name: ThresholdName, value: float, limit: float) -> bool:
    return value > limit if ABOVE[name] else value < limit


READ: dict[ThresholdName, Callable[[AuditReport], float | None]] = {
    "growth": lambda report: report.of("a").value,
    "gradient": lambda report: report.of("b").value,
    "relative": lambda report: report.relative,
    "stability": lambda report: report.of("c").value,
    "margin": lambda report: report.of("d").value,
}
ABOVE: dict[ThresholdName, bool] = {"growth": True, "gradient": False, "relative": False, "stability": True, "margin": False}
DECIDE: tuple[ThresholdName, ...] = ("growth", "gradient", "relative", "margin")
