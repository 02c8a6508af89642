"""Markup of pages and charts: escaped text, elements, numbers.

Only :func:`text` and :func:`element` return :data:`Markup`, and both escape, so that a type checker finds unescaped text.
"""

from __future__ import annotations

import sys
from html import escape
from typing import NewType

from batteries.io.text import plain

Markup = NewType("Markup", str)
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def text(value: object) -> Markup:
    """Escape a value as text, with control characters replaced, such as those that change the direction of text."""
    return Markup(escape(plain(str(value))))


def element(name: str, *inner: Markup, **attributes: object) -> Markup:
    """Return an element. In attribute names ``_`` becomes ``-``, a last ``_`` is dropped; attributes of None are left out."""
    pairs = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    opening = "".join(f' {key}="{text(place(value) if isinstance(value, float) else value)}"' for key, value in pairs)
    return Markup(f"<{name}{opening}>{''.join(inner)}</{name}>")


def number(value: float | None) -> str:
    """Format a number with four digits, as a power of ten if that is shorter.

    >>> number(0.21431), number(20000.0), number(1e-05), number(-3.25e-07), number(None)
    ('0.2143', '20,000', '10⁻⁵', '−3.25 × 10⁻⁷', '–')
    """
    if value is None:
        return "\N{EN DASH}"
    if abs(value) < 10**6 and value == int(value):
        return f"{value:,.0f}".replace("-", "\N{MINUS SIGN}")
    value = max(-sys.float_info.max, min(sys.float_info.max, value))  # an int may exceed the range of floats
    mantissa, _, exponent = f"{value:.4g}".replace("-", "\N{MINUS SIGN}", int(value < 0)).partition("e")
    return power(mantissa, exponent) if exponent else mantissa


def power(mantissa: str, exponent: str) -> str:
    """Format digits times a power of ten; the power alone if the digits are 1."""
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    return power if mantissa == "1" else f"{mantissa} \N{MULTIPLICATION SIGN} {power}"


def place(value: float) -> str:
    """Format a coordinate to a tenth."""
    return f"{value:.1f}"
