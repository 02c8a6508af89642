"""The processors that a quota of control groups grants a process (``docker --cpus``, ``CPUQuota=``). No torch here.

OpenMP and torch count the processors that a process may run on, and know nothing of a quota.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

GROUPS = Path("/proc/self/cgroup")
ROOT = Path("/sys/fs/cgroup")


def settle_openmp() -> None:
    """Set what OpenMP reads when torch loads: threads sleep while they wait, and are no more than the process's quota.

    Only for a process of our own. What the user set stands. docs/decisions/0023-threads.md.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    granted = quota()
    if granted is not None and granted < allowed():
        os.environ.setdefault("OMP_NUM_THREADS", str(granted))


def allowed() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quota(groups: Path = GROUPS, root: Path = ROOT) -> int | None:
    """Whole processors of the least quota over this process; at least 1. None without a quota, or without control groups.

    Args:
        groups: Lists the groups of the process.
        root: Where groups are mounted.
    """
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return None
    found = [share for line in lines for share in _shares(line, root)]
    return max(1, int(min(found))) if found else None


def _shares(line: str, root: Path) -> Iterator[float]:
    """Processors of the quota of a line's group and of all those around it."""
    _, controllers, path = line.split(":", 2)
    if controllers and "cpu" not in controllers.split(","):
        return
    inside = PurePosixPath(path.lstrip("/"))
    for group in (inside, *inside.parents):
        folder = root / controllers / group
        files = [folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"] if controllers else [folder / "cpu.max"]
        try:
            granted, period = " ".join(file.read_text() for file in files).split()
            if granted not in ("max", "-1"):
                yield int(granted) / int(period)
        except (OSError, ValueError):  # no such group seen from inside a container, or no quota
            continue
