"""What somebody may have meant who wrote a name that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST = 2000  # names that are compared: a guess is not to take a second


def did_you_mean(found: str, known: Iterable[str], otherwise: str) -> str:
    """A sentence with up to three names near to one that was not found, whatever their case.

    Args:
        found: What was written.
        known: What there is.
        otherwise: The sentence where nothing is near.

    >>> did_you_mean("hihg", ["low", "mid", "high"], "There are three.")
    'Did you mean high?'
    """
    wanted, spelled = found[:200].lower(), {name.lower(): name for name in known}
    likely = sorted(spelled, key=lambda name: abs(len(name) - len(wanted)))[:MOST]
    close = [spelled[name] for name in difflib.get_close_matches(wanted, likely, n=3)]
    return f"Did you mean {' or '.join(close)}?" if close else otherwise
