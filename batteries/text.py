"""Text for messages: safe for a terminal, lists of names, and suggestions for a misspelt name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

MOST = 2000  # names compared for a suggestion, which must take well under a second
SHOWN = 6  # names in a message


def plain(text: str) -> str:
    """Replace control characters in untrusted text, which could manipulate a terminal."""
    if text.isprintable():  # as nearly all is, in a fraction of the time
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def unicode(value: object) -> str:
    r"""Convert a value to valid Unicode for JSON: a file's name may not be.

    >>> unicode("/tmp/\udcff")
    '/tmp/\\udcff'
    """
    return str(value).encode(errors="backslashreplace").decode()


def listed(names: Sequence[str]) -> str:
    """Join the first few names for a message.

    >>> listed(["a", "b"]), listed(list("abcdefgh"))
    ('a, b', 'a, b, c, d, e, f and 2 more')
    """
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def did_you_mean(found: str, known: Iterable[str], otherwise: str) -> str:
    """Suggest up to three known names similar to one that was not found, ignoring case.

    Args:
        found: Name that was given.
        known: Existing names.
        otherwise: Sentence to return if no name is similar.

    >>> did_you_mean("hihg", ["low", "mid", "high"], "There are three.")
    'Did you mean high?'
    """
    wanted, spelled = found[:200].lower(), {name.lower(): name for name in known}
    likely = sorted(spelled, key=lambda name: abs(len(name) - len(wanted)))[:MOST]
    close = [spelled[name] for name in difflib.get_close_matches(wanted, likely, n=3)]
    return f"Did you mean {' or '.join(close)}?" if close else otherwise
