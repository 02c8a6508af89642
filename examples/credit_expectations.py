"""Expectations of the source and of a first look, beside the measurements of the runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from credit_jobs import ARCHITECTURES, MLP, OPEN, Line, Lines

from batteries.errors import BatteriesError

Row = list[str]


def expectations(found: Lines) -> list[Row]:
    """Return a row for each expectation: words, measurement, and whether it holds; those without runs are open."""
    return [_row(words, measure, found) for words, measure in EXPECTED.items()]


def _row(words: str, measure: Callable[[Lines], tuple[str, bool] | None], found: Lines) -> Row:
    measured = measure(found)
    return [words, "no runs", "open"] if measured is None else [words, measured[0], "yes" if measured[1] else "**no**"]


def _lines(found: Lines, host: str, rule: str, task: str = "noise") -> list[Line]:
    return [line for job, line in found.items() if (job.task, job.host, job.rule) == (task, host, rule) and line.report]


def _mean(lines: Sequence[Line], read: Callable[[Line], float | None]) -> float:
    return fmean(value for line in lines if (value := read(line)) is not None)


def _accuracy(line: Line) -> float:
    if line.report is None:
        raise BatteriesError("run without an audit", code="NO_REPORT", where=line.name)
    return line.report.accuracy


def _growth(line: Line) -> float | None:
    return line.report.of("a").value if line.report else None


def _means(found: Lines, *rules: str) -> list[float] | None:
    groups = [_lines(found, MLP, rule) for rule in rules]
    return [_mean(lines, _accuracy) for lines in groups] if all(groups) else None


def _below_baseline(found: Lines) -> tuple[str, bool] | None:
    means = _means(found, "dfa", "frozen")
    dfa = _lines(found, MLP, "dfa")
    if means is None or not all(line.cosine for line in dfa):
        return None
    cosine, growth = _mean(dfa, lambda line: fmean(line.cosine)), _mean(dfa, _growth)
    words = f"{means[0]:.3f} against {means[1]:.3f}, cosine {cosine:+.3f}, growth {growth:.3g}"
    return words, means[0] < means[1] and cosine > 0 and growth > 50


def _penalty(found: Lines) -> tuple[str, bool] | None:
    means, lines = _means(found, "dfa", "dfa+0.01"), _lines(found, MLP, "dfa+0.01")
    if means is None:
        return None
    growth = _mean(lines, _growth)
    return f"growth {growth:.3g}, accuracy {means[1]:.3f} against {means[0]:.3f}", growth < 50 and means[1] > means[0]


def _between(found: Lines) -> tuple[str, bool] | None:
    means = _means(found, "dfa", "fa", "bp")
    return means and (" < ".join(f"{mean:.3f}" for mean in means), means[0] < means[1] < means[2])


def _as_bp(found: Lines) -> tuple[str, bool] | None:
    means, lines = _means(found, "ep", "bp"), _lines(found, MLP, "ep")
    if means is None:
        return None
    clean = all(line.report is not None and line.report.trustworthy for line in lines)
    return f"{means[0]:.3f} against {means[1]:.3f}, {'all' if clean else 'not all'} trustworthy", clean


def _bp_silent(found: Lines) -> tuple[str, bool] | None:
    lines = [line for job, line in found.items() if job.rule == "bp" and line.report]
    fired = [f"{line.name}: {', '.join(line.report.fired)}" for line in lines if line.report and line.report.fired]
    return (f"{len(lines)} runs, fired in {len(fired)}{': ' + '; '.join(fired) if fired else ''}", not fired) if lines else None


def _initial_silent(found: Lines) -> tuple[str, bool] | None:
    fired = [f"{line.name}: {', '.join(line.initial)}" for line in found.values() if line.initial]
    words = f"{len(found)} networks, fired in {len(fired)}{': ' + '; '.join(fired[:4]) if fired else ''}"
    return (words, not fired) if found else None


def _open_stream(found: Lines) -> tuple[str, bool] | None:
    lines, closed = _lines(found, OPEN, "dfa"), _lines(found, MLP, "dfa")
    if not lines or not closed:
        return None
    without, within = ([line.first.get("b") for line in group] for group in (lines, closed))
    words = f"first epochs of b without it {_epochs(without)}, with it {_epochs(within)}"
    return words, not any(e is not None for e in without) and all(e is not None for e in within)


def _both(found: Lines) -> tuple[str, bool] | None:
    groups = [(host, _lines(found, host, "dfa")) for host in (MLP, *ARCHITECTURES) if host != "student"]
    known = [(host, lines) for host, lines in groups if lines]
    fired = {
        host: all(line.first.get("a") is not None and line.first.get("b") is not None for line in of) for host, of in known
    }
    words = ", ".join(f"{host} {'both' if both else 'not both'}" for host, both in fired.items())
    return (words, all(fired.values())) if known else None


def _null(rule: str, separated: bool) -> Callable[[Lines], tuple[str, bool] | None]:
    def measure(found: Lines) -> tuple[str, bool] | None:
        z = [line.null_z for line in _lines(found, MLP, rule) if line.null_z is not None]
        return (f"z {min(z):.1f} to {max(z):.1f}", all((one > 3) is separated for one in z)) if z else None

    return measure


def _epochs(found: Sequence[int | None]) -> str:
    return ", ".join("never" if epoch is None else str(epoch) for epoch in found)


EXPECTED: dict[str, Callable[[Lines], tuple[str, bool] | None]] = {
    "DFA below the frozen baseline, with a positive cosine and growth above 50": _below_baseline,
    "a penalty of 1e-2 brings growth below 50 and recovers a part of the accuracy": _penalty,
    "FA between DFA and BP": _between,
    "EP trustworthy, as BP": _as_bp,
    "BP fires on no seed, host or task": _bp_silent,
    "random initial networks fire in no a, b or c": _initial_silent,
    "DFA: (b) fires with a terminal LayerNorm and never without": _open_stream,
    "DFA: (a) and (b) fire on every host with a terminal normalisation": _both,
    "penalty 1e-2: own feedback more than 3 standard errors above fresh": _null("dfa+0.01", True),
    "penalty 1e-4: own feedback within 3 standard errors of fresh": _null("dfa+0.0001", False),
}
