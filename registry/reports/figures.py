"""Figures as plain text, for tables and messages; pages have :mod:`registry.reports.number_format`, with powers of ten."""

from __future__ import annotations

SMALL = 1e-3  # below it four decimals would leave fewer than two significant digits
LARGE = 10.0


def number(value: float, decimals: int = 4) -> str:
    """Format a figure: fixed decimals between 0.001 and 10, scientific notation below, significant digits above.

    >>> [number(value) for value in (0.90951, 0.0, -0.0041, 8e-6, 13.7712, 256.0, float("nan"))]
    ['0.9095', '0', '-0.0041', '8.00e-06', '13.77', '256', 'nan']
    >>> number(0.8848, 3), number(-2e-4, 3), number(0.0025, 2)
    ('0.885', '-2.00e-04', '2.50e-03')
    """
    size = abs(value)
    if size == 0:
        return "0"
    if size < max(SMALL, 10.0**-decimals):
        return f"{value:.2e}"
    return f"{value:.{decimals}g}" if size >= LARGE else f"{value:.{decimals}f}"


def estimate(value: float, error: float | None, decimals: int = 4) -> str:
    """Format a figure with its standard error, if it has one.

    >>> estimate(0.90951, 0.0017), estimate(4.256e-5, 5e-6), estimate(13.77, 2.8), estimate(0.5, 1e-6), estimate(0.5, None)
    ('0.9095 ± 0.0017', '4.26e-05 ± 5e-06', '13.77 ± 2.8', '0.5000 ± 1e-06', '0.5000')
    """
    if error is None:
        return number(value, decimals)
    if abs(value) >= LARGE or error >= LARGE:
        spread = f"{error:.2g}"
    elif error == 0 or (abs(value) >= SMALL and round(error, decimals) > 0):
        spread = f"{error:.{decimals}f}" if error else "0"
    else:
        spread = f"{error:.0e}"
    return f"{number(value, decimals)} ± {spread}"
