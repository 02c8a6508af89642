"""Memory of this process, as the system counts it."""

from __future__ import annotations

import resource
import sys


def peak_bytes() -> int:
    """Return the largest resident memory of this process so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
