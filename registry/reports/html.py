"""Parts of HTML pages, which have no scripts, load nothing, and are readable on a phone and in print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from registry.reports.chart import Chart
from registry.reports.markup import Markup, element, text

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
.wide > svg { display: block; margin: .5rem }
.heat text, .bars text { font-size: 13px } .heat text.left, .bars text.left { fill: var(--ink) }
.heat .fill { fill: var(--cell) } .heat .sure .fill { stroke: var(--cell); stroke-width: 1.5 }
.heat .shade text { fill: var(--ink) } .heat .sure text { fill: var(--ink); font-weight: 650 }
.heat .base, .heat .unsure rect { fill: var(--edge); fill-opacity: .5 } .heat .plain rect { fill: none; stroke: var(--edge) }
.bars .sure { fill: var(--cell); fill-opacity: .55 } .bars .unsure { fill: var(--edge) }
.rod { stroke: var(--ink); stroke-width: 1.5 }
@media print { body { max-width: none; padding: 0 } .wide { overflow: visible; border: 0; background: none }
  .wide > svg { max-width: 100%; height: auto; margin: 0 } figure, tr { break-inside: avoid }
  table { font-size: .6rem } th, td { padding: .2rem .3rem; min-width: 0 } }
"""


def whole(title: str, body: Iterable[Markup]) -> str:
    """Return a page; the same title and body give the same bytes."""
    head = [
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        element("title", text(title)),
        f"<style>{STYLE}</style>",
    ]
    return "\n".join(
        ["<!doctype html>", '<html lang="en">', "<head>", *head, "</head>", "<body>", *body, "</body>", "</html>", ""]
    )


def section(title: str, *parts: Markup) -> list[Markup]:
    """Put parts under a heading."""
    return [element("h3", text(title)), *parts]


def note(words: str) -> Markup:
    """Return a paragraph in a muted colour."""
    return element("p", text(words), class_="note")


def charts(found: Iterable[Chart]) -> Markup:
    """Lay out charts in a grid as wide as the page allows."""
    return element("div", *(Markup(f"\n{chart.figure()}") for chart in found), class_="charts")


def fold(inner: Markup, summary: str = "The numbers") -> Markup:
    """Hide markup until its summary is clicked."""
    return element("details", element("summary", text(summary)), inner)


def table(name: str, columns: Sequence[str], rows: Iterable[Sequence[Markup]], words: Sequence[int] = ()) -> Markup:
    """Return a scrollable table; ``words`` are the indices of columns with sentences."""
    head = element("thead", element("tr", *(element("th", text(column), scope="col") for column in columns)))
    body = []
    for first, *others in rows:
        cells = [element("td", cell, class_="words" if i in words else "figure") for i, cell in enumerate(others, start=1)]
        body.append(Markup(f"\n{element('tr', element('th', first, scope='row'), *cells)}"))
    return wide(name, element("table", head, element("tbody", *body)))


def wide(name: str, inner: Markup) -> Markup:
    """Wrap markup in a box that scrolls if it is wider than the page."""
    return element("div", inner, class_="wide", role="region", tabindex=0, aria_label=name)


def facts(found: Mapping[str, object]) -> Markup:
    """Return a list of names and values."""
    return element(
        "dl", *(element(tag, text(value)) for fact in found.items() for tag, value in zip(("dt", "dd"), fact, strict=True))
    )


def figure(title: str, drawing: Markup, key: Iterable[Markup]) -> Markup:
    """Return a scrollable drawing between its title and its key."""
    return element("figure", element("figcaption", text(title)), wide(title, drawing), element("ul", *key, class_="key"))
