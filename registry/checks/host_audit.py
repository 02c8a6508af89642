"""Audit of the hosts of a viability test: a host whose gradient is not worth trusting says nothing of a cell."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from batteries.errors import InputError
from composer.audit.host_audit import audit
from composer.audit.report import AuditReport, Diagnostic
from composer.audit.thresholds import Thresholds
from composer.hosts.tasks import Task
from registry.catalog.check_names import HOST_AUDIT
from registry.catalog.figures import AuditKey, CheckFigure, FrozenFigure, HostAuditFigure, Stage
from registry.checks.figures import flag

BATCHES = 5  # strided, so that images which go round the classes have all of them in each
UNREADABLE = {"NO_BLOCKS", "STREAM", "WIDTH", "BATCHES", "NOT_FINITE"}  # values that are not finite fail another check
STAGES = {"made": "before its first step", "trained": "after its training"}


class HostAudits:
    """Audits of one host along a trial, on the test images of its task.

    (c) never decides, and (d) needs a twin with frozen blocks and a training to its end, which a trial is not; so the two
    others are read. A host whose read-out starts at zero sends no gradient at all before its first step: (b) then tells
    nothing.

    Args:
        task: Task of the trial.

    Attributes:
        figures: Audits made.
    """

    def __init__(self, task: Task) -> None:
        images, targets = task.test
        self._batches = [(images[i::BATCHES], targets[i::BATCHES]) for i in range(BATCHES)]
        self._first: AuditReport | None = None
        self.figures: tuple[HostAuditFigure, ...] = ()

    def look(self, host: nn.Module, stage: Stage) -> None:
        """Audit the host as it is."""
        self.figures += (self._figure(host, stage),)

    def _figure(self, host: nn.Module, stage: Stage) -> HostAuditFigure:
        try:
            report = audit(host, self._batches, first=self._first)
        except InputError as error:
            if error.code not in UNREADABLE:
                raise
            return HostAuditFigure(stage=stage, growth=None, gradient=None, fired=(), reason=f"not audited: {error.what}")
        growth, gradient = report.of("a"), report.of("b")
        begun = bool(gradient.value)
        if stage == "made" and begun:
            self._first = report
        judged: dict[AuditKey, Diagnostic] = {"a": growth}
        if begun or stage == "trained":
            judged["b"] = gradient
        return HostAuditFigure(
            stage=stage,
            growth=growth.value,
            gradient=gradient.value,
            fired=tuple(key for key, one in judged.items() if one.fired),
            reason="; ".join(f"({key}) {one.reason}" for key, one in judged.items()),
        )


def host_audit(trials: Sequence[FrozenFigure]) -> CheckFigure:
    """Check that no host's own gradient is walked back, before its first step or after its last; the verdict needs it.

    Hosts without a residual stream are not audited; the check then decides nothing.
    """
    read = [(trial, one) for trial in trials for one in trial.audits if one.growth is not None]
    limits = Thresholds()
    words = f"(a) growth of a block at most {limits.growth.value:g}, (b) gradient at least {limits.gradient.value:g}"
    if not read:
        reasons = {one.reason for trial in trials for one in trial.audits}
        return flag(HOST_AUDIT, None, words, "; ".join(sorted(reasons)) or "not audited", decides=False)
    found = [f"{trial.host}, {STAGES[one.stage]}: {one.reason}" for trial, one in read if one.fired]
    growth = max(one.growth for _, one in read if one.growth is not None)
    return CheckFigure(
        name=HOST_AUDIT,
        passed=not found,
        decides=True,
        value=growth,
        lower=None,
        upper=None,
        threshold=words,
        source=limits.growth.source,
        reason=found[0] if found else f"{len(read)} audits of hosts; largest growth of a block {growth:.3g}",
    )
