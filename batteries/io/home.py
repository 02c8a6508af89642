"""The folder on this machine that keeps what can be had again: fetched cells, and the kernels' compiled code."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import platformdirs

from batteries.errors import InputError

__all__ = ["HOME_VARIABLE", "home", "own_folder"]

HOME_VARIABLE = "BATTERIES_HOME"
NOWHERE = Path(os.devnull)  # no folder can be in it


def home() -> Path:
    """Folder of the cache: ``BATTERIES_HOME``, or the platform's own.

    Raises:
        InputError: the variable names what is no path (``BAD_PATH``).
    """
    named = os.environ.get(HOME_VARIABLE)
    if not named:
        return own_folder(platformdirs.user_cache_path)
    try:
        return Path(named).expanduser().absolute()
    except (OSError, RuntimeError, ValueError) as error:  # no working directory, no such user, a NUL
        raise InputError("a path that cannot be used", code="BAD_PATH", found=repr(named), where=HOME_VARIABLE) from error


def own_folder(find: Callable[..., Path]) -> Path:
    """Folder of the user's as the platform has it; of a user without a home, one that cannot be."""
    with contextlib.suppress(RuntimeError):
        path = find("batteries", appauthor=False)
        if path.is_absolute():
            return path
    return NOWHERE / "batteries"
