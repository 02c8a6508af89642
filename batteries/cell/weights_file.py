"""Weights file of a cell: safetensors, float32, read strictly and written reproducibly. Does not import torch.

Strict means: a header of at most 64 KiB and 256 tensors, no duplicate keys, no metadata, only float32, names of a plain
grammar, offsets that cover the file without hole or overlap, every value finite, and exactly the bytes that ``write`` makes of
the same tensors. So a cell that is read and written again keeps its digest on every machine.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from batteries.cell.artifact_kinds import code_of, name_in
from batteries.cell.spec import CellSpec
from batteries.errors import FormatError, PolicyError
from batteries.io import canonical_json
from batteries.io.texts import placeholders

MAX_CELL = 128 * 2**20
MAX_HEADER = 64 * 2**10
MAX_TENSORS = 256
TENSOR_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}(\.[a-z0-9_]{1,64}){0,7}")

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray]

# Functions import numpy themselves: it takes a third of the start-up time of a command that reads no weights.


def write(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Serialise float32 arrays as a cell file: sorted names, no metadata.

    Raises:
        PolicyError: non-finite values.
    """
    import numpy as np
    from safetensors.numpy import save

    refuse_non_finite(arrays, where="the cell to be written")
    return save({name: np.ascontiguousarray(arrays[name], dtype=np.float32) for name in sorted(arrays)})


def read(data: bytes, spec: CellSpec, *, where: object) -> Arrays:
    """Parse a cell file into arrays, read-only views of ``data``.

    Args:
        data: Contents of the file.
        spec: Architecture whose tensor names and shapes are required.
        where: Name of the file in messages.

    Raises:
        FormatError: header or extent that breaks the rules above, or tensors that do not fit the spec (all listed).
        PolicyError: non-finite values.
    """
    import numpy as np

    text, header, body = _split(data, where)
    extents = {name: _extent(name, row, where) for name, row in header.items()}
    refuse_misfits(extents, spec, where)
    _refuse_holes(extents, len(body), where)
    _refuse_other_header(text, spec, where)
    arrays = {
        name: np.frombuffer(body, dtype="<f4", count=(end - start) // 4, offset=start).reshape(shape)
        for name, (shape, start, end) in extents.items()
    }
    if not np.isfinite(np.frombuffer(body, dtype="<f4")).all():  # one pass; tensors are searched only after a failure
        refuse_non_finite(arrays, where)
    return arrays


def tensor_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 over names, shapes and values in name order: an identity of weights independent of the file format."""
    import numpy as np

    digest = hashlib.sha256(b"batteries-tensors-1")
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], dtype="<f4")
        digest.update(f"\0{name}{list(array.shape)}\0".encode())
        digest.update(array.data)  # where it lies: joining them would copy a cell twice
    return digest.hexdigest()


def refuse_other_kind(data: bytes, where: object) -> None:
    """Refuse an artifact of another kind where a cell is required.

    Raises:
        FormatError: artifact of another kind (``A_MODEL``, ``MAPS``, and so on for any kind).
    """
    name = name_in(data)
    if name is not None:
        what, remedy = f"file of kind {name}, not a cell", "Open it with composer.load."
        raise FormatError(what, code=code_of(name), expected="one cell", where=where, remedy=remedy)


def _split(data: bytes, where: object) -> tuple[bytes, dict[str, Any], memoryview]:
    """Split a file into its header, raw and parsed, and the bytes after it."""
    refuse_other_kind(data, where)
    if len(data) > MAX_CELL:
        raise FormatError(
            "too large for a cell", code="TOO_LARGE", expected=f"at most {MAX_CELL}", found=len(data), where=where
        )
    if len(data) < 8:
        placeholders.refuse_unreadable(data, where)
        raise FormatError("too short for a cell", code="ST_SHORT", found=f"{len(data)} bytes", where=where)
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER or 8 + size > len(data):
        placeholders.refuse_unreadable(data, where)
        limit = min(MAX_HEADER, len(data) - 8)
        raise FormatError("header too large", code="ST_HEADER", expected=f"at most {limit}", found=size, where=where)
    text = data[8 : 8 + size]
    header = canonical_json.load(text, where=f"the header of {where}", limit=MAX_HEADER)
    if not isinstance(header, dict) or not 0 < len(header) <= MAX_TENSORS:
        raise FormatError("not a table of tensors", code="ST_HEADER", expected=f"1 to {MAX_TENSORS} tensors", where=where)
    return text, header, memoryview(data)[8 + size :]


def _extent(name: str, row: Any, where: object) -> tuple[tuple[int, ...], int, int]:
    """Return the shape, start and end of one tensor."""
    if not TENSOR_NAME.fullmatch(name):
        raise FormatError("invalid tensor name", code="ST_NAME", found=repr(name[:80]), where=where)
    if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
        raise FormatError("invalid fields of a tensor row", code="ST_ROW", where=f"{name} of {where}")
    if row["dtype"] != "F32":
        raise FormatError(
            "unsupported tensor dtype", code="ST_DTYPE", expected="F32", found=row["dtype"], where=f"{name} of {where}"
        )
    shape, offsets = row["shape"], row["data_offsets"]
    if not (_naturals(shape) and _naturals(offsets) and len(offsets) == 2 and len(shape) <= 8):
        raise FormatError("shape or offsets not a list of counts", code="ST_ROW", where=f"{name} of {where}")
    bytes_needed = 4 * math.prod(shape)
    if offsets[1] - offsets[0] != bytes_needed:
        raise FormatError(
            "tensor extent does not fit its shape",
            code="ST_EXTENT",
            expected=f"{bytes_needed} bytes",
            found=offsets[1] - offsets[0],
            where=f"{name} of {where}",
        )
    return tuple(shape), offsets[0], offsets[1]


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def refuse_misfits(extents: Mapping[str, tuple[tuple[int, ...], int, int]], spec: CellSpec, where: object) -> None:
    """Refuse tensors whose names or shapes differ from a spec's.

    Args:
        extents: Shape, start and end of each tensor.
        spec: Architecture required.
        where: Name of the file in messages.

    Raises:
        FormatError: missing, unexpected or misshapen tensors, all named (``ST_TENSORS``).
    """
    wanted = spec.tensor_shapes()
    wrong = [f"{name} is missing" for name in sorted(wanted.keys() - extents.keys())]
    wrong += [f"{name} is unexpected" for name in sorted(extents.keys() - wanted.keys())]
    wrong += [
        f"{name} is {list(extents[name][0])} instead of {list(wanted[name])}"
        for name in sorted(wanted.keys() & extents.keys())
        if extents[name][0] != wanted[name]
    ]
    if wrong:
        raise FormatError("tensors that do not fit the spec", code="ST_TENSORS", found="; ".join(wrong), where=where)


def _refuse_holes(extents: Mapping[str, tuple[tuple[int, ...], int, int]], size: int, where: object) -> None:
    position = 0
    for name, (_, start, end) in sorted(extents.items(), key=lambda item: item[1][1:]):
        if start != position:
            raise FormatError(
                "hole or overlap between tensors", code="ST_HOLE", expected=position, found=start, where=f"{name} of {where}"
            )
        position = end
    if position != size:
        raise FormatError("bytes that belong to no tensor", code="ST_TAIL", expected=position, found=size, where=where)


def _refuse_other_header(text: bytes, spec: CellSpec, where: object) -> None:
    """Refuse another order of tensors or other white space: it would be the same cell with another digest."""
    if text != _canonical_header(spec):
        raise FormatError("header not canonical", code="ST_NOT_CANONICAL", where=where, remedy="Write it with this package.")


@functools.lru_cache(maxsize=64)
def _canonical_header(spec: CellSpec) -> bytes:
    rows, position = {}, 0
    for name, shape in sorted(spec.tensor_shapes().items()):
        end = position + 4 * math.prod(shape)
        rows[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(rows, separators=(",", ":")).encode()
    return text.ljust(-(-len(text) // 8) * 8)  # the format pads its header to 8 bytes with spaces


def refuse_non_finite(arrays: Mapping[str, np.ndarray], where: object) -> None:
    """Refuse NaN and infinities.

    Raises:
        PolicyError: non-finite values, with the tensors that have them (``NON_FINITE``).
    """
    import numpy as np

    wrong = [f"{name} ({int((~np.isfinite(array)).sum())})" for name, array in arrays.items() if not np.isfinite(array).all()]
    if wrong:
        raise PolicyError(
            "non-finite values",
            code="NON_FINITE",
            found=", ".join(sorted(wrong)),
            where=where,
            remedy="The cell's training diverged or its file was damaged before it was published; it cannot be used.",
        )
