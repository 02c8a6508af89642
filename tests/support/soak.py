"""Short forms for every run, long ones for ``make soak``."""

import os
from typing import TypeVar

Amount = TypeVar("Amount", int, tuple[str, ...])

SOAK = os.environ.get("BATTERIES_SOAK") == "1"


def many(short: Amount, long: Amount) -> Amount:
    """How often: ``long`` under ``make soak``."""
    return long if SOAK else short
