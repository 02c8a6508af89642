"""Processes that tests started, and whether they are gone."""

import time
from pathlib import Path


def alive(pid):
    """Whether a process lives; one that waits for its parent to read its code does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def gone(pids, seconds):
    """Whether processes end within some seconds."""
    end = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(alive, pids))
