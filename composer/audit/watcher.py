"""Audits along a training: the epoch at which each diagnostic fired first."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from batteries.errors import InputError
from composer.audit.baseline import Baseline, Batch, checked
from composer.audit.host_audit import STANDARD, audit
from composer.audit.report import AuditReport
from composer.audit.stream import Blocks, Form
from composer.audit.thresholds import Key, Thresholds


class AuditWatcher:
    """Auditor of a host along its training; the first look is that before the first step, to which (b) is relative.

    Args:
        batches: Held-out batches, as in :func:`composer.audit.audit`.
        blocks: Blocks of the host.
        form: Meaning of a block's output.
        baseline: Baseline, trained to its end.
        thresholds: Thresholds.

    Raises:
        InputError: unusable batches (``BATCHES``).

    >>> import torch
    >>> from composer import audit, credit, hosts
    >>> host, x, y = hosts.ResidualMLP(8, 3, hosts.StreamForm(width=32, blocks=2)), torch.randn(90, 8), torch.arange(90) % 3
    >>> watcher = audit.AuditWatcher(audit.batched(x, y, size=30))
    >>> plan = credit.CreditPlan(epochs=2, batch=30)
    >>> _ = credit.train(host, credit.Backpropagation(), (x, y), plan, seed=0, look=lambda epoch: watcher.look(host, epoch))
    >>> list(watcher.reports), watcher.first["a"]
    ([0, 1, 2], None)
    """

    def __init__(
        self,
        batches: Iterable[Batch],
        *,
        blocks: Blocks | None = None,
        form: Form | None = None,
        baseline: Baseline | None = None,
        thresholds: Thresholds = STANDARD,
    ) -> None:
        self._batches = checked(batches)
        self._blocks, self._form = blocks, form
        self._baseline, self._thresholds = baseline, thresholds
        self.reports: dict[int, AuditReport] = {}

    def __repr__(self) -> str:
        return f"AuditWatcher({len(self.reports)} looks)"

    def look(self, host: nn.Module, epoch: int) -> AuditReport:
        """Audit the host at an epoch.

        Args:
            host: Host.
            epoch: Number of the epoch, above those before.

        Raises:
            InputError: an epoch not above the last (``EPOCH``), or as in :func:`composer.audit.audit`.
        """
        last = max(self.reports, default=-1)
        if epoch <= last:
            raise InputError("epoch out of order", code="EPOCH", expected=f"above {last}", found=epoch)
        first = self.reports[min(self.reports)] if self.reports else None
        self.reports[epoch] = audit(
            host,
            self._batches,
            blocks=self._blocks,
            form=self._form,
            baseline=self._baseline,
            first=first,
            thresholds=self._thresholds,
        )
        return self.reports[epoch]

    @property
    def first(self) -> dict[Key, int | None]:
        """Epoch at which each diagnostic fired first; None if it never did.

        Of (d) it is the epoch from which on it fires to the last look: before training a host is below any baseline.
        """
        return {"a": self._first("a"), "b": self._first("b"), "c": self._first("c"), "d": self._lasting("d")}

    def _first(self, key: Key) -> int | None:
        return next((epoch for epoch, report in self.reports.items() if report.of(key).fired), None)

    def _lasting(self, key: Key) -> int | None:
        found = None
        for epoch, report in reversed(self.reports.items()):
            if not report.of(key).fired:
                break
            found = epoch
        return found
