"""A viability report as a notebook shows it: the verdict, what it rests on, and every check. All text is escaped.

It has the colours of the page around it; red and green only say again what the words say.
"""

from __future__ import annotations

from registry.catalog.attestation import Attestation, CheckFigure, verdict_words
from registry.reports.markup import Markup, element, number, text

CARD = "font: 14px/1.45 system-ui, sans-serif; max-width: 52rem; margin: .25rem 0; overflow-wrap: anywhere"
VERDICT = "border-left: .35rem solid {}; padding: .1rem .75rem"
COLOURS = {"viable": "#2e9e5b", "walked back": "#d64545"}
NEITHER = "#888888"
PLAIN = "background: transparent; color: inherit"
CELL = "text-align: left; padding: .1rem .75rem .1rem 0; vertical-align: top"
COLUMNS = ("check", "passed", "value", "wanted", "reason")


def verdict_card(found: Attestation) -> str:
    """Write an attestation as HTML in one piece, without a style sheet and a script."""
    name = f"{found.reference}, {found.protocol}" + ("" if found.control is None else f", control {found.control}")
    verdict = element("strong", text(verdict_words(found.verdict, found.failed)))
    colour = COLOURS.get(found.verdict, NEITHER)
    head = element("div", element("div", text(name)), verdict, style=VERDICT.format(colour))
    words = (element("div", text(sentence)) for sentence in found.words)
    rows = (_row(_check(check), "td") for check in found.checks)
    table = element("table", _row(COLUMNS, "th"), *rows, style=f"{PLAIN}; border-collapse: collapse; margin: .4rem 0")
    return element("div", head, *words, element("details", element("summary", text(_counted(found))), table), style=CARD)


def _check(check: CheckFigure) -> tuple[str, ...]:
    passed = {True: "yes", False: "no", None: "not made"}[check.passed]
    return check.name, passed if check.decides else f"{passed} (only told)", number(check.value), check.threshold, check.reason


def _row(values: tuple[str, ...], tag: str) -> Markup:
    return element("tr", *(element(tag, text(value), style=CELL) for value in values), style=PLAIN)


def _counted(found: Attestation) -> str:
    deciding = [check for check in found.checks if check.decides]
    passed = sum(bool(check.passed) for check in deciding)
    rejected = sum(control.rejected for control in found.controls)
    return f"{passed} of {len(deciding)} deciding checks passed; {rejected} of {len(found.controls)} controls rejected"
