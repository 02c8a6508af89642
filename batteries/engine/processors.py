"""CPU quota of control groups (``docker --cpus``, ``CPUQuota=``). Does not import torch.

OpenMP and torch count the processors that a process may run on, and ignore a quota.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

GROUPS = Path("/proc/self/cgroup")
ROOT = Path("/sys/fs/cgroup")


def settle_openmp() -> None:
    """Set the variables that OpenMP reads when torch loads: idle threads sleep, and are no more than the process's quota.

    For this package's own commands only. Variables set by the user are kept. See docs/decisions/0023-threads.md.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    granted = quota()
    if granted is not None and granted < allowed():
        os.environ.setdefault("OMP_NUM_THREADS", str(granted))


def allowed() -> int:
    """Return the number of processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quota(groups: Path = GROUPS, root: Path = ROOT) -> int | None:
    """Return the smallest quota over this process in whole processors, at least 1; None without a quota or control groups.

    Args:
        groups: File that lists the groups of the process.
        root: Mount point of the control groups.
    """
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return None
    found = [share for line in lines for share in _shares(line, root)]
    return max(1, int(min(found))) if found else None


def _shares(line: str, root: Path) -> Iterator[float]:
    """Yield the quotas of the group on a line and of all its parents, in processors."""
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
