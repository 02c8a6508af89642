"""Addresses that a key may be pinned for: a pin under any other text would pin nothing, in silence."""

from __future__ import annotations

import re
from pathlib import Path

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # not the letter of a drive
_ON_HUB = re.compile(r"hf://[^/@]+/[^/@]+/?(@.+)?")


def may_be_address(text: str) -> bool:
    """Return whether a text may be the address of a registry, which need not exist.

    >>> [may_be_address(text) for text in ("./cells", "hf://me/cells", "https://huggingface.co/me/cells", "hf:/me/cells")]
    [True, True, False, False]
    """
    if _SCHEME.match(text):
        return _ON_HUB.fullmatch(text) is not None
    try:
        Path(text).expanduser()
    except RuntimeError:  # no such user
        return False
    return "\0" not in text
