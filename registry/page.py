"""The viability report as one page of HTML: no script, nothing loaded from elsewhere, readable on a phone.

An attestation may come from somebody else's registry: every text of it is escaped, and the page forbids scripts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from registry import charts
from registry.attestation import Attestation, CheckFigure, ReturnFigure
from registry.drawing import Chart, Markup, element, number, text

STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfb; --ink: #1d2023; --soft: #5a6066; --edge: #d9dcdf; --shade: #e9f0ea;
  --cell: #1d5fa8; --untrained: #b2530b; --good: #17703a; --bad: #b3261e; --box: #f3f4f3 }
@media (prefers-color-scheme: dark) { :root { --paper: #16181a; --ink: #e6e7e8; --soft: #a3a9af; --edge: #3a3f44;
  --shade: #21302a; --cell: #7fb5f5; --untrained: #f0a35c; --good: #6fcf8e; --bad: #ff8a80; --box: #1f2225 } }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body { margin: 0 auto; padding: 1.25rem 1rem 4rem; max-width: 70rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; overflow-wrap: anywhere }
h1, h2, h3 { line-height: 1.25; margin: 0; font-weight: 600; text-wrap: balance }
h1 { font-size: 1.1rem; color: var(--soft) }
h2 { font-size: 1.45rem }
h3 { font-size: 1.15rem; margin: 2.5rem 0 .5rem }
p { margin: .5rem 0; max-width: 68ch }
a { color: inherit; text-underline-offset: .15em }
article { margin-top: 1.5rem }
article + article { margin-top: 4rem; border-top: 2px solid var(--edge); padding-top: 2rem }
.verdict { margin: .75rem 0 1rem; padding: .6rem 1rem; border-left: .4rem solid; background: var(--box);
  font-size: 1.15rem; max-width: none }
.verdict strong { display: block; font-size: 1.9rem; line-height: 1.2 }
.good { color: var(--good) } .bad { color: var(--bad) } .none { color: var(--soft) }
.note, summary { color: var(--soft) }
.wide { overflow-x: auto; border: 1px solid var(--edge); border-radius: 6px; margin: .75rem 0;
  background: linear-gradient(to left, var(--paper) 40%, transparent) 100% 0 / 3rem 100% no-repeat local,
    linear-gradient(to left, var(--edge), transparent) 100% 0 / 1.25rem 100% no-repeat scroll }
table { border-collapse: collapse; font-size: .9375rem; line-height: 1.4; font-variant-numeric: tabular-nums }
th, td { text-align: left; vertical-align: top; padding: .45rem .6rem; min-width: 5rem; max-width: 22rem;
  overflow-wrap: break-word; border-top: 1px solid var(--edge) }
thead th { border-top: 0; color: var(--soft); font-weight: 500; white-space: nowrap }
th[scope=row] { position: sticky; left: 0; background: var(--paper); font-weight: 600; max-width: 9rem }
td.words { min-width: 12rem } td.figure { white-space: nowrap }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); gap: 1.75rem 1.5rem }
figure { margin: 0; min-width: 0 }
figcaption { font-weight: 600 }
figure > svg { width: 100%; height: auto; display: block }
svg text { font: 15px system-ui, sans-serif; fill: var(--soft); text-anchor: middle } svg text.left { text-anchor: end }
@media (min-width: 60rem) { svg text { font-size: 11px } }
.key { list-style: none; margin: .25rem 0 0; padding: 0; font-size: .9375rem; line-height: 1.5 }
.key svg { width: 28px; height: 16px; margin-right: .5rem; vertical-align: -2px }
.key .note { padding-left: calc(28px + .5rem) }
details { margin-top: 1rem }
.cell { --mark: var(--cell); --fill: var(--cell) } .untrained { --mark: var(--untrained); --fill: var(--paper) }
.mark { fill: var(--fill); stroke: var(--mark); stroke-width: 1.5 }
.line { fill: none; stroke: var(--mark); stroke-width: 1.75 } .dashed .line { stroke-dasharray: 5 3 }
.spread { fill: var(--mark); opacity: .18 } .bar { stroke: var(--mark); stroke-width: 1.25 }
.grid { stroke: var(--edge) } .axis { stroke: var(--soft) } .band { fill: var(--shade) }
.back { stroke: var(--mark); stroke-width: 1.5; stroke-dasharray: 6 3 }
.rule { stroke: var(--ink); stroke-width: 1.25; stroke-dasharray: 2 3 } .exact { stroke: var(--ink); stroke-width: 1.25 }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) minmax(0, 1fr); gap: .3rem 1rem; margin: .75rem 0 }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
"""


def page(found: Sequence[Attestation]) -> str:
    """The whole page; the same attestations give the same bytes."""
    title = f"Viability of {found[0].reference}" if len(found) == 1 else f"Viability of {len(found)} cells"
    head = [
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        element("title", text(title)),
        f"<style>{STYLE}</style>",
    ]
    body = [element("h1", text("Viability report")), *(_summary(found) if len(found) > 1 else [])]
    body += [_article(attestation, f"cell-{index}") for index, attestation in enumerate(found, start=1)]
    return "\n".join(
        ["<!doctype html>", '<html lang="en">', "<head>", *head, "</head>", "<body>", *body, "</body>", "</html>", ""]
    )


def verdict_line(found: Attestation) -> str:
    """The verdict in a line, after its first word or two: what it is because of."""
    if found.verdict == "walked back":
        return f"because of {', '.join(found.failed) or 'no check by name'}"
    if found.verdict == "no verdict":
        accepted = ", ".join(control.name for control in found.controls if not control.rejected)
        return f"because a control was not rejected: {accepted}" if accepted else "the checks prove nothing"
    return "every deciding check passed"


def _summary(found: Sequence[Attestation]) -> list[Markup]:
    """One row per cell, with a link to it; its verdicts counted first."""
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
    return [element("p", element("strong", text(counts))), _table("all cells", columns, rows, words=(2,))]


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
        parts.append(_note(f"A negative control stood in the cell's place: {found.control}. It has to be walked back."))
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
    return _section("Checks", _table("checks", columns, rows, words=(4, 5, 6)))


def _outcome(check: CheckFigure) -> Markup:
    """Passed or not, or what is only reported; in words, not by colour alone."""
    word = "not made" if check.passed is None else "passed" if check.passed else "not passed"
    if not check.decides:
        return element("span", text(f"reported ({word})"), class_="none")
    return element("span", text(word), class_="good" if check.passed else "bad")


def _doses(found: Attestation) -> list[Markup]:
    """CV, rank, content and error after each dose of a host's gradient."""
    if not found.doses:
        return _section("Dose-response", _note("No trial under a host's gradient."))
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
    note = _note("Each dot is one trial, with its 95% interval where there is one; the line goes through the medians.")
    return _section("Dose-response", note, _charts(charts.dose_charts(found)), _fold(_table("doses", columns, rows)))


def _trajectories(found: Attestation) -> list[Markup]:
    """The cell along its training, and along its trials at the deciding and at the largest dose."""
    drawn = charts.training_charts(found) + charts.trial_charts(found)
    if not drawn:
        return _section("Trajectories", _note("No reading along training, and none along a trial."))
    return _section("Trajectories", _note("Shaded around a line: its 95% interval."), _charts(drawn))


def _returns(found: Attestation) -> list[Markup]:
    """What became of it under reconstruction training, after the dose that drove it away."""
    if not found.returns:
        return _section("Return", _note("No trial of return."))
    rows = [(text(r.subject), *_figures(r.rate, r.seed), text(_return_words(r))) for r in found.returns]
    table = _table("returns", ("subject", "dose", "seed", "back"), rows, words=(3,))
    return _section("Return", table, _charts(charts.return_charts(found)))


def _return_words(found: ReturnFigure) -> str:
    if found.steps is None:
        return f"not within {number(found.limit)} steps"
    return f"after {number(found.steps)} of at most {number(found.limit)} steps"


def _frozen(found: Attestation) -> list[Markup]:
    """What hosts learned around the frozen cell, beside hosts of untrained cells."""
    if not found.frozen:
        return _section("Frozen in a host", _note("No frozen trial."))
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
    note = _note(
        "Score on test images: accuracy, or the share of variance explained. Each dot is one host, with its 95% interval."
    )
    return _section(
        "Frozen in a host",
        note,
        _charts(charts.frozen_charts(found)),
        _fold(_table("frozen trials", columns, rows, words=(1,))),
    )


def _controls(found: Attestation) -> list[Markup]:
    rows = [
        (text(c.name), element("span", text("yes" if c.rejected else "no"), class_="good" if c.rejected else "bad"), text(c.by))
        for c in found.controls
    ]
    return _section(
        "Negative controls", _table("controls", ("control", "rejected", "by check"), rows) if rows else _note("None.")
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
    pairs = [element(tag, text(value)) for fact in facts.items() for tag, value in zip(("dt", "dd"), fact, strict=True)]
    figures = [(text(name), text(number(value))) for name, value in sorted(found.figures.items())]
    more = [_fold(_table("figures", ("figure", "value"), figures), "Further figures")] if figures else []
    return _section("Provenance", element("dl", *pairs), *more)


def _section(title: str, *parts: Markup) -> list[Markup]:
    return [element("h3", text(title)), *parts]


def _note(words: str) -> Markup:
    return element("p", text(words), class_="note")


def _charts(charts: Iterable[Chart]) -> Markup:
    return element("div", *(Markup(f"\n{chart.figure()}") for chart in charts), class_="charts")


def _fold(inner: Markup, summary: str = "The numbers") -> Markup:
    return element("details", element("summary", text(summary)), inner)


def _table(name: str, columns: Sequence[str], rows: Iterable[Sequence[Markup]], words: Sequence[int] = ()) -> Markup:
    """A table that scrolls within its own box; ``words`` are the columns of sentences."""
    head = element("thead", element("tr", *(element("th", text(column), scope="col") for column in columns)))
    body = []
    for first, *others in rows:
        cells = [element("td", cell, class_="words" if i in words else "figure") for i, cell in enumerate(others, start=1)]
        body.append(Markup(f"\n{element('tr', element('th', first, scope='row'), *cells)}"))
    table = element("table", head, element("tbody", *body))
    return element("div", table, class_="wide", role="region", tabindex=0, aria_label=name)


def _figures(*values: float | None) -> tuple[Markup, ...]:
    return tuple(text(number(value)) for value in values)


def _ratio(found: tuple[float, float, float] | None) -> Markup:
    return text("degenerate" if found is None else f"{number(found[0])} ({number(found[1])} to {number(found[2])})")
