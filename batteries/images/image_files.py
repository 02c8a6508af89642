"""Files of images: those that a path names, of a folder with its subfolders, or of a glob pattern."""

from __future__ import annotations

from pathlib import Path

from batteries import path_patterns
from batteries.errors import InputError, NotFoundError
from batteries.images.decoding import SUFFIXES

SHOWN = 6  # files in a message


def files(place: Path) -> list[Path]:
    """Image files that a path names: one file, those of a folder and its subfolders, or those of a glob pattern, sorted.

    Raises:
        NotFoundError: no such file (``NO_FILE``), or no image there (``NO_IMAGES``).
        InputError: a folder with files that are no images (``IMAGE``).

    >>> from pathlib import Path
    >>> import batteries
    >>> folder = Path(batteries.__file__).parent / "photographs"
    >>> [file.name for file in batteries.images.files(folder / "c*.png")]
    ['chelsea.png', 'coffee.png', 'creek.png']
    """
    if place.is_dir():
        found = [path for path in path_patterns.below(place) if not path.name.startswith(".")]
        _refuse_others(place, [path for path in found if path.suffix.lower() not in SUFFIXES])
    elif place.is_file():
        return [place]
    elif path_patterns.is_pattern(place):
        _, found = path_patterns.matching(place)
    else:
        raise NotFoundError("no such file", code="NO_FILE", expected="a file, a folder or a glob pattern", where=place)
    if not found:
        expected = f"at least one of {' '.join(sorted(SUFFIXES))}"
        raise NotFoundError("no images", code="NO_IMAGES", expected=expected, found="none", where=place)
    return found


def _refuse_others(folder: Path, others: list[Path]) -> None:
    if others:
        shown = ", ".join(str(path.relative_to(folder)) for path in others[:SHOWN])
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        remedy = f"Select the images by a glob: {folder / '*.png'}."
        raise InputError("files other than images", code="IMAGE", found=shown + more, where=folder, remedy=remedy)
