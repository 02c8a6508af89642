"""Names and labels of adopted cells: from the option of the user and the path of the checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

import batteries
from batteries.packaging.shelf import Options, ShelfItem
from registry.answers.answer import typed
from registry.catalog.reference import Reference

BAND = "{band}"
FIELD = re.compile(r"\{(stem|parent)\}")
BETWEEN = re.compile(r"[^a-z0-9]+")
LONGEST = 48  # characters of a field, so that names with two of them stay short
ANY = "open"  # a band, for checks of a name whose band is not known yet
FIRST = "1.0.0"


def filled_name(item: ShelfItem) -> str:
    """Return the name of a checkpoint's cell, with the fields of its path filled in, and without its band if that is open."""
    words = {"stem": item.run, "parent": item.file.inside.parent.name or (item.file.folder or Path()).absolute().name}
    return FIELD.sub(lambda field: plain(words[field[1]]), item.options.name or "")


def wanted_name(item: ShelfItem) -> Reference:
    """Return the reference that a checkpoint's cell is to have; its band is ``open`` where measuring will tell it.

    Raises:
        InputError: invalid name (``BAD_REFERENCE``).
    """
    wanted = Reference.parse(filled_name(item).replace(BAND, ANY, 1) or f"{ANY}/x")
    return wanted if wanted.version or item.version is None else wanted.at(item.version)


def label_of(options: Options, wanted: Reference) -> batteries.Label:
    """Make the label of a cell.

    Raises:
        InputError: invalid values, all of them named (``USAGE``).
    """
    return typed(
        batteries.Label,
        name=wanted.name,
        version=wanted.version or FIRST,
        family=options.family or wanted.name.split("-")[0],
        license=options.license or "unknown",
        description=options.description or "",
    )


def plain(text: str) -> str:
    """Return a name of small letters, digits and hyphens."""
    return BETWEEN.sub("-", text.lower())[:LONGEST].strip("-")


def expected_reference(item: ShelfItem) -> str:
    """Return the reference of a checkpoint's cell before it is measured."""
    wanted = wanted_name(item)
    band = BAND if BAND in (item.options.name or "") else wanted.band
    return f"{band}/{wanted.name}@{wanted.version or FIRST}"
