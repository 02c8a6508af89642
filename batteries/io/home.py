"""Cache folder on this machine: downloaded cells and compiled kernels."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import platformdirs

from batteries.errors import InputError

__all__ = ["HOME_VARIABLE", "REMEDY", "home", "own_folder"]

HOME_VARIABLE = "BATTERIES_HOME"
REMEDY = f"Set {HOME_VARIABLE} to a writable folder."
NOWHERE = Path(os.devnull)  # cannot contain a folder


def home() -> Path:
    """Return the cache folder: ``BATTERIES_HOME``, or the platform's default.

    Raises:
        InputError: variable with an invalid path (``BAD_PATH``).
    """
    named = os.environ.get(HOME_VARIABLE)
    if not named:
        return own_folder(platformdirs.user_cache_path)
    try:
        return Path(named).expanduser().absolute()
    except (OSError, RuntimeError, ValueError) as error:  # no working directory, no such user, a NUL
        raise InputError("invalid path", code="BAD_PATH", found=repr(named), where=HOME_VARIABLE) from error


def own_folder(find: Callable[..., Path]) -> Path:
    """Return the user's folder found by ``find``, a function of platformdirs; for a user without a home, an unusable path."""
    with contextlib.suppress(RuntimeError):
        path = find("batteries", appauthor=False)
        if path.is_absolute():
            return path
    return NOWHERE / "batteries"
