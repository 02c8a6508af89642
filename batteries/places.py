"""Files that a user names by a folder or by a glob pattern."""

from __future__ import annotations

from pathlib import Path

from batteries.errors import InputError

WILD = set("*?[")


def is_pattern(place: Path) -> bool:
    """Whether a path has wild cards, and is no file of that very name."""
    return bool(WILD & set(str(place))) and not place.exists()


def matching(place: Path) -> tuple[Path, list[Path]]:
    """The last folder of a pattern that has no wild card, and the files that the pattern fits, sorted."""
    parts = place.parts
    tame = next((n for n, part in enumerate(parts[:-1]) if WILD & set(part)), len(parts) - 1)
    folder = Path(*parts[:tame])
    try:
        return folder, sorted(path for path in folder.glob(str(Path(*parts[tame:]))) if path.is_file())
    except (ValueError, NotImplementedError) as error:
        raise InputError("not a glob pattern", code="PATTERN", found=error, where=place) from error
