"""Everything but the images that a result depends on, as bytes: what a part of an earlier run is known by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from batteries import __version__
from batteries.io import canonical_json
from composer.container.container import Container


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
