"""Supported operating systems. Imports nothing that other systems lack, since it is called first."""

from __future__ import annotations

import sys

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
