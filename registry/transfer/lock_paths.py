"""Folders in a lock file: relative to that file if near it, so that a checkout can be moved with its registry.

In the file such a folder starts with ``./`` or ``../``; in memory it is absolute. Names, addresses and distant folders are kept
as they are.
"""

from __future__ import annotations

import os
from pathlib import Path

NEAR = 2  # largest number of ".." from the lock's own folder
RELATIVE = ("./", "../")


def portable(source: str, folder: Path) -> str:
    """Return a source in the form written to a lock file in a folder.

    >>> [portable(path, Path("/work/project/locks")) for path in ("/work/project/cells", "/mnt/cells", "hf://a/b", "embedded")]
    ['../cells', '/mnt/cells', 'hf://a/b', 'embedded']
    """
    base = Path(os.path.realpath(folder))
    if not Path(source).is_absolute() or Path(source).drive != base.drive:
        return source
    real = os.path.realpath(source)  # otherwise a link to the project would hide that the two are near
    common = os.path.commonpath([real, base])
    text = Path(os.path.relpath(real, base)).as_posix()
    if common == base.anchor or text.split("/").count("..") > NEAR:
        return source
    return f"{text}/" if text == ".." else text if text.startswith("../") else f"./{text}"


def absolute(source: str, folder: Path) -> str:
    """Return the absolute form of a source in a lock file in a folder.

    >>> absolute("../cells", Path("/work/project/locks"))
    '/work/project/cells'
    """
    return os.path.normpath(folder.absolute() / source) if source.startswith(RELATIVE) else source
