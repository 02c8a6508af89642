"""Decision utility: verdicts that seven strategies of reporting would have reached on the same runs.

The source names the strategies by what they report. Ours: each accepts a run above chance unless something that it reports
speaks against it. The whole audit is the reference: a strategy misses what it accepts and the audit walks back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batteries.io.canonical_json import Document
from composer.audit.report import AuditReport
from composer.audit.thresholds import Key


@dataclass(frozen=True)
class AuditedRun:
    """A run with all that a strategy may report.

    Attributes:
        report: Audit at the end of the run, with a baseline.
        chance: Score of guessing.
        cosine: Deep cosine of the rule's signals against the true gradient; None if it was not measured.

    >>> import torch
    >>> from composer import audit, hosts
    >>> host = hosts.ResidualMLP(8, 3, hosts.StreamForm(width=32, blocks=2))
    >>> report = audit.audit(host, audit.batched(torch.randn(90, 8), torch.arange(90) % 3, size=30))
    >>> audit.AuditedRun(report, chance=1 / 3, cosine=None).report.trustworthy
    True
    """

    report: AuditReport
    chance: float
    cosine: float | None


class Utility(Document):
    """Decisions of a strategy over a set of runs.

    Attributes:
        strategy: Name of the strategy.
        accepted: Runs that it accepts.
        walked_back: Runs that it does not accept.
        missed: Runs that it accepts and the whole audit walks back.
        withheld: Runs that it does not accept and the whole audit calls trustworthy.

    >>> from composer import audit
    >>> audit.utility([])[0]
    Utility(strategy='accuracy', accepted=0, walked_back=0, missed=0, withheld=0)
    """

    strategy: str
    accepted: int
    walked_back: int
    missed: int
    withheld: int


def decisions(run: AuditedRun) -> dict[str, bool]:
    """Return by strategy whether it accepts a run.

    Args:
        run: Run with its audit.

    >>> import torch
    >>> from composer import audit, hosts
    >>> _ = torch.manual_seed(0)
    >>> host = hosts.ResidualMLP(8, 3, hosts.StreamForm(width=32, blocks=2))
    >>> report = audit.audit(host, audit.batched(torch.randn(90, 8), torch.arange(90) % 3, size=30))
    >>> list(audit.decisions(audit.AuditedRun(report, chance=0.0, cosine=-0.1)).items())[:2]
    [('accuracy', True), ('accuracy and cosine', False)]
    """
    return {name: accepts(run) for name, accepts in STRATEGIES.items()}


def utility(runs: Sequence[AuditedRun]) -> tuple[Utility, ...]:
    """Count the decisions of each strategy over a set of runs, against those of the whole audit.

    Args:
        runs: Runs with their audits.

    >>> from composer import audit
    >>> [one.strategy for one in audit.utility([])][-1]
    'all'
    """
    return tuple(_of(name, runs) for name in STRATEGIES)


def _of(name: str, runs: Sequence[AuditedRun]) -> Utility:
    pairs = [(STRATEGIES[name](run), _all(run)) for run in runs]
    accepted = sum(own for own, _ in pairs)
    return Utility(
        strategy=name,
        accepted=accepted,
        walked_back=len(pairs) - accepted,
        missed=sum(own and not whole for own, whole in pairs),
        withheld=sum(whole and not own for own, whole in pairs),
    )


def _above_chance(run: AuditedRun) -> bool:
    return run.report.accuracy_lower > run.chance


def _and_cosine(run: AuditedRun) -> bool:
    return _above_chance(run) and (run.cosine is None or run.cosine > 0)


def _and(key: Key) -> Callable[[AuditedRun], bool]:
    return lambda run: _above_chance(run) and not run.report.of(key).fired


def _all(run: AuditedRun) -> bool:
    return _above_chance(run) and run.report.trustworthy


STRATEGIES: dict[str, Callable[[AuditedRun], bool]] = {
    "accuracy": _above_chance,
    "accuracy and cosine": _and_cosine,
    "accuracy and a": _and("a"),
    "accuracy and b": _and("b"),
    "accuracy and c": _and("c"),
    "accuracy and d": _and("d"),
    "all": _all,
}
