"""The systems this package runs on. Nothing else is imported here: it is asked before anything that another system lacks."""

from __future__ import annotations

import sys

from batteries.errors import PolicyError


def refuse_others() -> None:
    """Refuse a system whose files this package does not know how to write.

    Windows is one: it cannot open a folder to sync it, refuse a link while a file is opened, or replace a file that somebody
    reads; and asking whether a process runs would end that process there.

    Raises:
        PolicyError: it is Windows (``PLATFORM``).
    """
    if sys.platform == "win32":
        raise PolicyError(
            "a system that is not supported",
            code="PLATFORM",
            expected="Linux or macOS",
            found=sys.platform,
            remedy="On Windows use the Windows Subsystem for Linux, or a container.",
        )
