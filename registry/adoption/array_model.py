"""Model of an array's cells: side by side, with their tokens aligned, as ``batteries compose`` writes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import composer
from batteries.cell.cell import SUFFIX, Cell
from batteries.packaging.shelf import ShelfItem
from composer.artifact.manifest import PackedLabel
from composer.artifact.model.manifest import MODEL
from registry.adoption.cell_names import FIRST, plain
from registry.answers.answer import typed

PROBE = "photos-64"  # on which the tokens are aligned, as by default of ``batteries compose``


def label_of(item: ShelfItem, name: str, cells: Sequence[Cell]) -> PackedLabel:
    """Make the label of an array's model.

    Args:
        item: Array.
        name: Name of the array.
        cells: Cells of the model.

    Raises:
        InputError: invalid values, all of them named (``USAGE``).
    """
    return typed(
        PackedLabel,
        name=plain(name),
        version=item.version or FIRST,
        license=" AND ".join(sorted({cell.manifest.identity.license for cell in cells})),
        description=item.options.description or f"Cells of the array {item.file.inside.name}.",
    )


def path_of(out: Path, item: ShelfItem, label: PackedLabel) -> Path:
    """Return the path of an array's model: phases of one name have a folder each, as those of cells."""
    return out / MODEL.name / (item.version or "") / f"{label.name}{SUFFIX}"


def write(cells: Sequence[Cell], path: Path, label: PackedLabel) -> None:
    """Compose cells side by side, align them on photographs, and write the model with its manifest.

    Args:
        cells: Cells, named ``band/name``; several versions of one name have their versions in the names.
        path: Path ending in ``.safetensors``.
        label: Label of the model.

    Raises:
        BatteriesError: any error of :func:`composer.wire` and :func:`composer.pack`.
    """
    versions = Counter(cell.name for cell in cells)
    named = {cell.name if versions[cell.name] == 1 else f"{cell.name}-{cell.version}": cell for cell in cells}
    composition = composer.Composition.parallel({name: f"{cell.name}@{cell.version}" for name, cell in named.items()})
    composer.pack(composer.wire(named, composition, PROBE), path, label)
