"""Supported operating systems, and the place of this process. Imports nothing that other systems lack: it is called first."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys
from functools import cache
from pathlib import Path

from batteries.errors import PolicyError


def refuse_others() -> None:
    """Refuse an operating system whose files this package cannot write safely.

    Windows cannot open a folder to sync it, refuse a link while opening a file, or replace a file that is being read; and
    ``os.kill(process, 0)`` ends the process there.

    Raises:
        PolicyError: Windows (``PLATFORM``).
    """
    if sys.platform == "win32":
        raise PolicyError(
            "unsupported operating system",
            code="PLATFORM",
            expected="Linux or macOS",
            found=sys.platform,
            remedy="On Windows use the Windows Subsystem for Linux, or a container.",
        )


@cache
def place() -> str:
    """Return eight digits of the place where process numbers mean this process: host, its last start, and container."""
    found = [platform.node()]
    with contextlib.suppress(OSError):  # not Linux
        found += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:8]


if hasattr(os, "register_at_fork"):  # a forked process may be in another container than the one that asked before it
    os.register_at_fork(after_in_child=place.cache_clear)
