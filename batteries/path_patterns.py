"""Files selected by a folder or a glob pattern."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from batteries.errors import InputError

WILD = set("*?[")


def is_pattern(place: Path) -> bool:
    """Return True if a path has wildcards and is not the name of an existing file."""
    return bool(WILD & set(str(place))) and not place.exists()


def matching(place: Path) -> tuple[Path, list[Path]]:
    """Return the deepest folder of a pattern without wildcards, and the files that match, sorted."""
    parts = place.parts
    tame = next((n for n, part in enumerate(parts[:-1]) if WILD & set(part)), len(parts) - 1)
    folder = Path(*parts[:tame])
    try:
        return folder, sorted(path for path in folder.glob(str(Path(*parts[tame:]))) if path.is_file())
    except (ValueError, NotImplementedError) as error:
        raise InputError("not a glob pattern", code="PATTERN", found=error, where=place) from error


def below(folder: Path) -> list[Path]:
    """List the files below a folder, following links, sorted; each folder once."""
    return sorted(path for path in _walked(folder) if path.is_file())


def _walked(folder: Path) -> Iterator[Path]:
    seen = set()
    for inside, folders, names in os.walk(folder, followlinks=True):
        folders.sort()  # so that the same path to a folder is taken on every machine
        real = os.path.realpath(inside)
        if real in seen:
            folders.clear()
        else:
            seen.add(real)
            yield from (Path(inside, name) for name in names)
