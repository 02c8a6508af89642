"""Cache folder on this machine: downloaded cells and compiled kernels."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import platformdirs

from batteries.errors import InputError, PolicyError
from batteries.io import filesystem, folders
from batteries.io.access import Access, is_open_to_others
from batteries.io.filesystem_errors import typed

__all__ = ["HOME_VARIABLE", "REMEDY", "home", "own_folder", "private_folder"]

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


def private_folder(*names: str) -> Path:
    """Return a folder inside the cache for files that no digest can prove, made if it is missing.

    Raises:
        PolicyError: folder of another user or open to others, or a link (``FOREIGN_FOLDER``).
        StoreError: no space, no permission.
    """
    folder = home().joinpath(*names)
    with typed(folder, writing=True):
        if not os.path.lexists(folder):
            folders.make(folder, Access(home(), private=True))
        status = filesystem.current.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or is_open_to_others(status):
        remedy = f"Remove it, or set {HOME_VARIABLE} to a folder that only you can write to."
        expected, what = "a folder of this user alone", "folder that another user could have written to"
        raise PolicyError(what, code="FOREIGN_FOLDER", expected=expected, where=folder, remedy=remedy)
    return folder


def own_folder(find: Callable[..., Path]) -> Path:
    """Return the user's folder found by ``find``, a function of platformdirs; for a user without a home, an unusable path."""
    with contextlib.suppress(RuntimeError):
        path = find("batteries", appauthor=False)
        if path.is_absolute():
            return path
    return NOWHERE / "batteries"
