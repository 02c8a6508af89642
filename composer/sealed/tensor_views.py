"""Conversion between torch's tensors and those of a sealed file, sharing memory where possible."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from batteries.engine.torch_settings import neutral
from composer.sealed.file_format import Dtype, Said
from composer.sealed.reader import Opened

if TYPE_CHECKING:
    import numpy as np

TORCH: dict[Dtype, torch.dtype] = {"F32": torch.float32, "F64": torch.float64, "BOOL": torch.bool}


def array(tensor: Tensor, dtype: torch.dtype) -> np.ndarray:
    """Convert a tensor to a contiguous array, sharing memory if it has that dtype already."""
    return tensor.detach().cpu().to(dtype).contiguous().numpy()


@neutral()
def views(opened: Opened[Said]) -> dict[str, Tensor]:
    """Return every tensor of a file by name, as views of the file."""
    found = {}
    for name, row in opened.layout.items():
        flat = torch.frombuffer(opened.data, dtype=TORCH[row.dtype], count=math.prod(row.shape), offset=row.start)
        found[name] = flat.view(row.shape)
    return found
