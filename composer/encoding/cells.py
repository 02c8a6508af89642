"""Cells that are run over images: their container, and the bytes by which results of an earlier run are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from batteries import __version__
from batteries.cell.cell import Cell
from batteries.io import canonical_json
from composer.container.container import Container
from composer.wiring.compose import compose
from composer.wiring.wired_model import Wired

Cells = Cell | Iterable[Cell] | Mapping[str, Cell] | Container | Wired


def container_of(cells: Cells) -> Container:
    """Container to run: the one that is given, of a composition that of its cells, or one composed of cells.

    Raises:
        BatteriesError: as :func:`composer.compose`.
        IntegrityError: a container whose weights have changed (``CONTAINER_CHANGED``).
    """
    if not isinstance(cells, Container | Wired):
        return compose(cells)
    cells.container.verify()
    return cells.container


def recipe(container: Container, names: Sequence[str], **settings: Any) -> bytes:
    """Return canonical bytes of cells, arithmetic and settings.

    Args:
        container: Container of the cells.
        names: Cells that are run.
        settings: JSON values of everything else that decides the result.
    """
    cells = [{"tensors": container.ends[name], "spec": container.spec(name).model_dump(mode="json")} for name in names]
    arithmetic = [__version__, str(torch.__version__), str(container.groups[0].stack.dtype), container.device.type]
    return canonical_json.dump({"cells": cells, "arithmetic": arithmetic, "settings": settings})
