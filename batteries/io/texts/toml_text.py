"""Strict reader of TOML from any hand: bounded in size, depth and number of values before it is parsed.

The parser of the standard library copies a dotted key part by part, which takes hours for a million parts and gigabytes for
forty thousand characters; it recurses once a bracket; and an integer of many digits ends in a bare ``ValueError``.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

from batteries.errors import FormatError
from batteries.io.texts.hostile_json import MAX_DEPTH

MAX_VALUES = 80_000  # commas and lines outside of strings: a bound on the parser's time, about a second
MAX_DIGITS = 400  # of a number: the parser's own search for its end takes a hundred times its bytes

# strings and comments, in which a dot separates no keys. Possessive quantifiers, and an end at the end of the text, keep the
# scan linear
_TEXTS = re.compile(
    r'"""(?:[^"\\]++|\\[\s\S]?|"(?!""))*+(?:"{3,5}|\Z)'
    r"|'{3}(?:[^']++|'(?!''))*+(?:'{3,5}|\Z)"
    r'|"(?:[^"\\\n]++|\\.?)*+"?'
    r"|'[^'\n]*+'?"
    r"|#[^\n]*+"
)
_DEEP_KEY = re.compile(rf"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}")
_LONG_NUMBER = re.compile(rf"[0-9_]{{{MAX_DIGITS + 1},}}+")


def parse(data: bytes | str, *, where: object, limit: int) -> dict[str, Any]:
    """Parse TOML.

    Args:
        data: Text, or its bytes in UTF-8, with or without a byte order mark.
        where: Name of the document in messages.
        limit: Largest size accepted, in bytes.

    Raises:
        FormatError: too large in bytes or values (``TOO_LARGE``), nested too deeply (``TOO_DEEP``), or not TOML (``TOML``).

    >>> parse('a.b = 1', where="example", limit=100)
    {'a': {'b': 1}}
    """
    try:
        size = len(data) if isinstance(data, bytes) else len(data.encode())
        if size > limit:
            raise FormatError("too large", code="TOO_LARGE", expected=f"at most {limit} bytes", found=size, where=where)
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        bare = _TEXTS.sub("_", text)
        if _DEEP_KEY.search(bare):
            raise RecursionError
        if number := _LONG_NUMBER.search(bare):
            raise ValueError(f"a number of {len(number[0])} digits")
        values = bare.count(",") + bare.count("\n")
        if values > MAX_VALUES:
            expected = f"at most {MAX_VALUES} commas and lines"
            raise FormatError("too large", code="TOO_LARGE", expected=expected, found=values, where=where)
        return tomllib.loads(text)
    except RecursionError as error:
        expected = f"at most {MAX_DEPTH} parts of a key"
        raise FormatError("nested too deeply", code="TOO_DEEP", expected=expected, where=where) from error
    except ValueError as error:  # also text that is not Unicode, and an integer of too many digits
        raise FormatError("not TOML", code="TOML", found=error, where=where) from error
