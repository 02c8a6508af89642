"""Folders in a lock file: relative to that file where they are near it, so that a checkout can be moved with its registry.

In the file such a folder starts with ``./`` or ``../``; in memory it is absolute. Names, addresses and far folders stay.
"""

from __future__ import annotations

import os
from pathlib import Path

NEAR = 2  # folders to climb from the lock's own, at most
RELATIVE = ("./", "../")


def portable(source: str, folder: Path) -> str:
    """Source as a lock file in a folder names it.

    >>> [portable(path, Path("/work/project/locks")) for path in ("/work/project/cells", "/mnt/cells", "hf://a/b", "embedded")]
    ['../cells', '/mnt/cells', 'hf://a/b', 'embedded']
    """
    base = Path(os.path.realpath(folder))
    if not Path(source).is_absolute() or Path(source).drive != base.drive:
        return source
    real = os.path.realpath(source)  # else a link to the project would stand between the two
    common = os.path.commonpath([real, base])
    text = Path(os.path.relpath(real, base)).as_posix()
    if common == base.anchor or text.split("/").count("..") > NEAR:
        return source
    return f"{text}/" if text == ".." else text if text.startswith("../") else f"./{text}"


def absolute(source: str, folder: Path) -> str:
    """What a source in a lock file of a folder means.

    >>> absolute("../cells", Path("/work/project/locks"))
    '/work/project/cells'
    """
    return os.path.normpath(folder.absolute() / source) if source.startswith(RELATIVE) else source
