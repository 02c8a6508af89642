"""A viability report as a notebook shows it: the verdict, its reasons, and every check. All text is escaped.

It takes the colours of the page around it; red and green repeat what the words state.
"""

from __future__ import annotations

from registry.catalog.attestation import Attestation, verdict_words
from registry.reports.templating import render

COLOURS = {"viable": "#2e9e5b", "viable as a reconstructor": "#b7791f", "walked back": "#d64545"}
NEITHER = "#888888"


def verdict_card(found: Attestation) -> str:
    """Return an attestation as HTML in one piece, without a style sheet and a script."""
    return render(
        "verdict_card.html.j2",
        found=found,
        verdict=verdict_words(found.verdict, found.failed),
        colour=COLOURS.get(found.verdict, NEITHER),
        plain="background: transparent; color: inherit",
        passed={True: "yes", False: "no", None: "not made"},
        counted=_counted(found),
    )


def _counted(found: Attestation) -> str:
    deciding = [check for check in found.checks if check.decides]
    passed = sum(bool(check.passed) for check in deciding)
    rejected = sum(control.rejected for control in found.controls)
    return f"{passed} of {len(deciding)} deciding checks passed; {rejected} of {len(found.controls)} controls rejected"
