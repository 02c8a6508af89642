"""The libraries of the ``trust`` extra: python-tuf and securesystemslib, imported when a signature is first made or checked."""

from __future__ import annotations

from batteries.errors import InputError

REMEDY = "pip install 'svae-batteries[trust]'"


def require() -> None:
    """Import the libraries.

    Raises:
        InputError: the extra is not installed, or does not work (``EXTRA``).
    """
    try:
        import tuf.api.metadata  # noqa: F401
    except Exception as error:  # one that is broken raises anything
        missing = isinstance(error, ModuleNotFoundError)
        what = "the libraries of signatures are not installed" if missing else "the libraries of signatures cannot be imported"
        raise InputError(what, code="EXTRA", found=None if missing else repr(error), remedy=REMEDY) from error


def is_there() -> bool:
    """Return whether signatures can be made and checked."""
    try:
        require()
    except InputError:
        return False
    return True
