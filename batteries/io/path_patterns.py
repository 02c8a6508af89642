"""Files that a user names by a folder or by a glob pattern."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from batteries.errors import InputError

WILD = set("*?[")


def is_pattern(place: Path) -> bool:
    """Whether a path has wild cards, and is no file of that very name."""
    return bool(WILD & set(str(place))) and not place.exists()


def matching(place: Path) -> tuple[Path, list[Path]]:
    """Last folder of a pattern that has no wild card, and the files that the pattern fits, sorted."""
    parts = place.parts
    tame = next((n for n, part in enumerate(parts[:-1]) if WILD & set(part)), len(parts) - 1)
    folder = Path(*parts[:tame])
    try:
        return folder, sorted(path for path in folder.glob(str(Path(*parts[tame:]))) if path.is_file())
    except (ValueError, NotImplementedError) as error:
        raise InputError("not a glob pattern", code="PATTERN", found=error, where=place) from error


def below(folder: Path) -> list[Path]:
    """Files below a folder, and below the folders that links in it lead to, sorted; each folder once."""
    return sorted(path for path in _walked(folder) if path.is_file())


def _walked(folder: Path) -> Iterator[Path]:
    seen = set()
    for inside, folders, names in os.walk(folder, followlinks=True):
        folders.sort()  # so that of two ways to one folder the same is taken everywhere
        real = os.path.realpath(inside)
        if real in seen:
            folders.clear()
        else:
            seen.add(real)
            yield from (Path(inside, name) for name in names)
