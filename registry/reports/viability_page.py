"""Viability report as a page of HTML. Attestations may come from untrusted registries, so all their text is escaped."""

from __future__ import annotations

from collections.abc import Sequence

from registry.catalog.attestation import Attestation, CheckFigure, ReturnFigure
from registry.reports import html, viability_charts
from registry.reports.markup import Markup, element, number, text


def page(found: Sequence[Attestation] | Attestation) -> str:
    """Return the page of one or more attestations; the same ones give the same bytes.

    >>> import registry
    >>> store, cell = registry.open_store(), registry.load("low/fresnel-64")
    >>> (key,) = store.keys(f"attestations/{cell.digest}")
    >>> attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    >>> registry.page(attestation)[:15]
    '<!doctype html>'
    """
    found = [found] if isinstance(found, Attestation) else list(found)
    title = f"Viability of {found[0].reference}" if len(found) == 1 else f"Viability of {len(found)} cells"
    body = [element("h1", text("Viability report")), *(_summary(found) if len(found) > 1 else [])]
    body += [_article(attestation, f"cell-{index}") for index, attestation in enumerate(found, start=1)]
    return html.whole(title, body)


def verdict_line(found: Attestation) -> str:
    """Return the reason of the verdict, to follow the verdict itself."""
    if found.verdict == "walked back":
        return f"because of {', '.join(found.failed) or 'unnamed checks'}"
    if found.verdict == "no verdict":
        accepted = ", ".join(control.name for control in found.controls if not control.rejected)
        return f"because a control was not rejected: {accepted}" if accepted else "the checks prove nothing"
    return "every deciding check passed"


def _summary(found: Sequence[Attestation]) -> list[Markup]:
    """Count the verdicts, and list the cells with links to their sections."""
    verdicts = [attestation.verdict for attestation in found]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    rows = [
        (
            element("a", text(attestation.reference), href=f"#cell-{index}"),
            element("span", text(attestation.verdict), class_=_TONE[attestation.verdict]),
            text(verdict_line(attestation)),
            text(attestation.control or "none"),
            text(attestation.protocol),
        )
        for index, attestation in enumerate(found, start=1)
    ]
    columns = ("cell", "verdict", "why", "control in its place", "protocol")
    return [element("p", element("strong", text(counts))), html.table("all cells", columns, rows, words=(2,))]


def _article(found: Attestation, anchor: str) -> Markup:
    sections = [
        element("h2", text(found.reference)),
        _verdict(found),
        *(element("p", text(sentence)) for sentence in found.words),
        *_checks(found),
        *_doses(found),
        *_trajectories(found),
        *_returns(found),
        *_frozen(found),
        *_controls(found),
        *_provenance(found),
    ]
    return element("article", *(Markup(f"\n{section}") for section in sections), id=anchor)


_TONE = {"viable": "good", "walked back": "bad", "no verdict": "none"}


def _verdict(found: Attestation) -> Markup:
    word = element("strong", text(found.verdict.capitalize()))
    parts = [element("p", word, text(f" {verdict_line(found)}"), class_=f"verdict {_TONE[found.verdict]}")]
    if found.control is not None:
        parts.append(
            html.note(
                f"The negative control {found.control} was tested in the cell's place. Its verdict should be: walked back."
            )
        )
    return element("div", *parts)


def _checks(found: Attestation) -> list[Markup]:
    rows = [
        (
            text(check.name),
            _outcome(check),
            text(number(check.value)),
            text("" if check.lower is None or check.upper is None else f"{number(check.lower)} to {number(check.upper)}"),
            text(check.threshold),
            text(check.source),
            text(check.reason),
        )
        for check in found.checks
    ]
    columns = ("check", "outcome", "value", "interval", "threshold", "source", "reason")
    return html.section("Checks", html.table("checks", columns, rows, words=(4, 5, 6)))


def _outcome(check: CheckFigure) -> Markup:
    """Name the outcome of a check, in words as well as by colour."""
    word = "not made" if check.passed is None else "passed" if check.passed else "not passed"
    if not check.decides:
        return element("span", text(f"reported ({word})"), class_="none")
    return element("span", text(word), class_="good" if check.passed else "bad")


def _doses(found: Attestation) -> list[Markup]:
    """Show CV, rank, content and error after each dose of a host's gradient."""
    if not found.doses:
        return html.section("Dose-response", html.note("No trial under a host's gradient."))
    columns = ("subject", "rate", "seed", "CV", "rank", "kept", "retention", "score", "weight change")
    rows = [
        (
            text(d.subject),
            *_figures(d.rate, d.seed),
            _ratio(d.cv),
            _ratio(d.rank),
            *_figures(d.kept, d.retention, d.score, d.weight_change),
        )
        for d in found.doses
    ]
    note = html.note("Each dot is one trial, with its 95% interval if it has one; the line goes through the medians.")
    return html.section(
        "Dose-response", note, html.charts(viability_charts.dose_charts(found)), html.fold(html.table("doses", columns, rows))
    )


def _trajectories(found: Attestation) -> list[Markup]:
    """Chart the cell along its training, and along its trials at the deciding and the largest dose."""
    drawn = viability_charts.training_charts(found) + viability_charts.trial_charts(found)
    if not drawn:
        return html.section("Trajectories", html.note("No reading along training, and none along a trial."))
    return html.section("Trajectories", html.note("Shaded around a line: its 95% interval."), html.charts(drawn))


def _returns(found: Attestation) -> list[Markup]:
    """Show whether reconstruction training restored the cell after the largest dose."""
    if not found.returns:
        return html.section("Return", html.note("No trial of return."))
    rows = [(text(r.subject), *_figures(r.rate, r.seed), text(_return_words(r))) for r in found.returns]
    table = html.table("returns", ("subject", "dose", "seed", "back"), rows, words=(3,))
    return html.section("Return", table, html.charts(viability_charts.return_charts(found)))


def _return_words(found: ReturnFigure) -> str:
    if found.steps is None:
        return f"not within {number(found.limit)} steps"
    return f"after {number(found.steps)} of at most {number(found.limit)} steps"


def _frozen(found: Attestation) -> list[Markup]:
    """Show the scores of hosts around the frozen cell, beside hosts of untrained cells."""
    if not found.frozen:
        return html.section("Frozen in a host", html.note("No frozen trial."))
    columns = ("subject", "task", "host", "seed", "score", "CV", "rank", "least gradient", "weights")
    rows = [
        (
            *(text(words) for words in (t.subject, t.task, t.host)),
            *_figures(t.seed, t.score),
            _ratio(t.cv),
            _ratio(t.rank),
            *_figures(t.gradient),
            text("unchanged" if t.unchanged else "changed"),
        )
        for t in found.frozen
    ]
    note = html.note(
        "Score on test images: accuracy, or the share of variance explained. Each dot is one host, with its 95% interval."
    )
    return html.section(
        "Frozen in a host",
        note,
        html.charts(viability_charts.frozen_charts(found)),
        html.fold(html.table("frozen trials", columns, rows, words=(1,))),
    )


def _controls(found: Attestation) -> list[Markup]:
    rows = [
        (text(c.name), element("span", text("yes" if c.rejected else "no"), class_="good" if c.rejected else "bad"), text(c.by))
        for c in found.controls
    ]
    return html.section(
        "Negative controls", html.table("controls", ("control", "rejected", "by check"), rows) if rows else html.note("None.")
    )


def _provenance(found: Attestation) -> list[Markup]:
    facts: dict[str, object] = {
        "cell": found.reference,
        "cell SHA-256": found.cell,
        "width D": found.D,
        "probe": found.probe,
        "protocol": found.protocol,
        "protocol SHA-256": found.protocol_digest,
        "package": found.package,
        "torch": found.torch,
        "seed": found.seed,
        "report SHA-256": found.digest,
    }
    figures = [(text(name), text(number(value))) for name, value in sorted(found.figures.items())]
    more = [html.fold(html.table("figures", ("figure", "value"), figures), "Further figures")] if figures else []
    return html.section("Provenance", html.facts(facts), *more)


def _figures(*values: float | None) -> tuple[Markup, ...]:
    return tuple(text(number(value)) for value in values)


def _ratio(found: tuple[float, float, float] | None) -> Markup:
    return text("degenerate" if found is None else f"{number(found[0])} ({number(found[1])} to {number(found[2])})")
