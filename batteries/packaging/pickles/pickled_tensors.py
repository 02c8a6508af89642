"""Tensors of torch's zip format: what a call of the pickle says of one, and the numbers of the archive that it claims.

A tensor is made on request, so that nothing is allocated for one that is not wanted, and it is bounded by the numbers that are
there. Flags of a view (conjugate, negative) are applied; other layouts than numbers one after the other are named.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from batteries.errors import FormatError

MAX_AXES = 64  # of a tensor
MAX_EXPANDED = 2**16  # numbers of a tensor that repeats fewer numbers; a file has at most 256 tensors
LAYOUTS = {  # calls that make other tensors than those of numbers one after the other, and other names that they need
    "torch._utils._rebuild_qtensor": "quantised",
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_meta_tensor_no_storage": "without numbers (device meta)",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_tensor_v3": "of a dtype other than those of 16, 32 and 64 bits",
    "torch._tensor._rebuild_from_type_v2": "of a class of its own",
}
THEIRS = re.compile(
    r"torch\.(per_(tensor|channel)_affine(_float_qparams)?|serialization\._get_layout|storage\.UntypedStorage|Tensor|[a-z]+\d\w*)"
)
DTYPES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}


class Record:
    """Base of what a call of the pickle makes; a state set on it afterwards is ignored."""

    def __setstate__(self, state: object) -> None:
        """Ignore the state."""


@dataclass(frozen=True, eq=False)
class Stored(Record):
    """Tensor of the archive, made on request.

    Attributes:
        shape: Size along each axis.
        make: Reader of the tensor.
    """

    shape: tuple[int, ...]
    make: Callable[[], Tensor]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)


def layouts_in(calls: list[str]) -> list[str]:
    """Return words for the tensors that refused calls make, if all of the calls are of torch and make such tensors.

    >>> layouts_in(["torch._utils._rebuild_sparse_tensor", "torch.serialization._get_layout"])
    ['sparse']
    """
    known = all(call in LAYOUTS or THEIRS.fullmatch(call) for call in calls)
    return [LAYOUTS[call] for call in calls if call in LAYOUTS] if known else []


def stored(numbers: Callable[[], Tensor], offset: int, size: Any, stride: Any, *rest: Any) -> Stored:
    """Return the tensor that a call of ``_rebuild_tensor_v2`` describes, with the flags in its last argument."""
    if max(len(size), len(stride)) > MAX_AXES:
        raise ValueError(f"a tensor of more than {MAX_AXES} axes")
    shape = tuple(int(side) for side in size)
    flags = rest[2] if len(rest) > 2 and isinstance(rest[2], dict) else {}

    def make() -> Tensor:
        held = numbers()
        found = torch.as_strided(held, shape, tuple(stride), offset)  # refuses what lies beyond the storage
        if math.prod(shape) > max(held.numel(), MAX_EXPANDED):
            raise FormatError(
                "tensor too large for a cell",
                code="TOO_LARGE",
                expected=f"at most {MAX_EXPANDED:,} numbers",
                found=f"{math.prod(shape):,}, expanded from {held.numel():,}",
            )
        found = found.conj() if flags.get("conj") else found
        return (torch._neg_view(found) if flags.get("neg") else found).resolve_conj().resolve_neg()

    return Stored(shape, make)


def numbers_of(entry: Callable[[str], bytearray], dtype: torch.dtype | None, name: str) -> Tensor:
    """Return the numbers of a storage."""
    if dtype is None:
        raise ValueError(f"unknown type of the numbers in {name}")
    data = entry(name)
    return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype, device="cpu")
