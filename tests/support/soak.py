"""Short forms for every run, long ones for ``make soak``."""

import os

SOAK = os.environ.get("BATTERIES_SOAK") == "1"


def many(short: int, long: int) -> int:
    """How often: ``long`` under ``make soak``."""
    return long if SOAK else short
