"""Numbers as text, for pages, charts and tables."""

from __future__ import annotations

import sys

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


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


def interval(low: float | None, high: float | None) -> str:
    """Format two bounds; nothing if there are none.

    >>> interval(0.983, 1.02), interval(None, None)
    ('0.983 to 1.02', '')
    """
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


def place(value: float) -> str:
    """Format a coordinate to a tenth."""
    return f"{value:.1f}"
