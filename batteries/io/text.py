"""Text for people: fit for a terminal, the first of some names, and what was meant by a name that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

MOST = 2000  # names that are compared: a guess is not to take a second
SHOWN = 6  # names in a message


def plain(text: str) -> str:
    """Text without what could steer a terminal: it may come from somebody else's registry."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def unicode(value: object) -> str:
    r"""Words for a value, as JSON can hold them: a file's name may be no Unicode.

    >>> unicode("/tmp/\udcff")
    '/tmp/\\udcff'
    """
    return str(value).encode(errors="backslashreplace").decode()


def listed(names: Sequence[str]) -> str:
    """First of some names, for a message.

    >>> listed(["a", "b"]), listed(list("abcdefgh"))
    ('a, b', 'a, b, c, d, e, f and 2 more')
    """
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def did_you_mean(found: str, known: Iterable[str], otherwise: str) -> str:
    """Sentence with up to three names near to one that was not found, whatever their case.

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
