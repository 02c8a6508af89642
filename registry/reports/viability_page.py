"""Viability report as a page of HTML. Attestations may come from untrusted registries, so all their text is escaped."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batteries.cell.manifest import CLAIMED
from registry.catalog import check_names
from registry.catalog.attestation import Attestation
from registry.catalog.figures import CheckFigure, ReturnFigure
from registry.reports.charts import viability_charts
from registry.reports.check_guide import guide
from registry.reports.number_format import number
from registry.reports.templating import render


@dataclass(frozen=True)
class Reconstruction:
    """An image and its reconstruction, on one scale of brightness.

    Attributes:
        name: Noise type or photograph.
        original: Image, as PNG.
        result: Reconstruction, as PNG.
        mse: Mean squared error.
    """

    name: str
    original: bytes
    result: bytes
    mse: float


def page(
    found: Sequence[Attestation] | Attestation, reconstructions: Mapping[str, Sequence[Reconstruction]] | None = None
) -> str:
    """Return the page of one or more attestations; the same ones give the same bytes.

    Args:
        found: Attestations.
        reconstructions: Images to show, by digest of the attestation; None to show none.

    >>> import registry
    >>> store, cell = registry.open_store(), registry.load("low/fresnel-64")
    >>> key, *_ = store.keys(f"attestations/{cell.digest}")
    >>> attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    >>> registry.page(attestation)[:15]
    '<!doctype html>'
    """
    found = [found] if isinstance(found, Attestation) else list(found)
    title = f"Viability of {found[0].reference}" if len(found) == 1 else f"Viability of {len(found)} cells"
    return render(
        "viability.html.j2",
        title=title,
        found=found,
        reconstructions=reconstructions or {},
        drawn=viability_charts,
        guide=guide,
        outcome=outcome,
        ratio=_ratio,
        recovery=_recovery,
        verdict_line=verdict_line,
        data_uri=_data_uri,
        claimed=CLAIMED,
    )


def verdict_line(found: Attestation) -> str:
    """Return the reason of the verdict, to follow the verdict itself."""
    if found.verdict in ("walked back", "does not hold"):
        return f"because of {check_names.listed(found.failed) or 'unnamed checks'}"
    if found.verdict == "viable as a reconstructor":
        return f"omega carries nothing here: {check_names.listed(found.failed)}"
    if found.verdict == "no verdict":
        if check_names.HOST_AUDIT in found.failed:
            return f"because a host was walked back: {_reason_of(found, check_names.HOST_AUDIT)}"
        accepted = ", ".join(control.name for control in found.controls if not control.rejected)
        return f"because a control was not rejected: {accepted}" if accepted else "the checks prove nothing"
    return "every deciding check passed"


def _reason_of(found: Attestation, name: str) -> str:
    return next(check.reason for check in found.checks if check.name == name)


def outcome(check: CheckFigure) -> tuple[str, str]:
    """Name the outcome of a check, and the tone of its colour."""
    word = "not made" if check.passed is None else "passed" if check.passed else "not passed"
    if not check.decides:
        return f"reported ({word})", "none"
    return word, "good" if check.passed else "bad"


def _recovery(found: ReturnFigure) -> str:
    if found.steps is None:
        return f"not within {number(found.limit)} steps"
    return f"after {number(found.steps)} of at most {number(found.limit)} steps"


def _ratio(found: tuple[float, float, float] | None) -> str:
    return "degenerate" if found is None else f"{number(found[0])} ({number(found[1])} to {number(found[2])})"


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}"
