"""Tokens as named arrays, in a safetensors file or in NumPy's npz, written one array after the other from parts.

Both hold the same arrays. For a cell ``c``, rows are its patches, image after image:

    c/omega, c/S     (rows, D) float32
    c/M              (rows, V, D) float32
    c/image          (rows,) int32, place of the image in the record
    c/row, c/column  (rows,) int32, place of the patch in the image's grid
    metadata         (n,) uint8, the record as JSON in UTF-8
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from batteries.io.atomic_files import Data
from composer.encoding.byte_buffer import ByteBuffer
from composer.encoding.record import EncodingRecord, Token
from composer.encoding.token_layout import FLOAT, Piece

METADATA = "metadata"
KEYS = ("image", "row", "column")
SAFETENSORS = {"<f4": "F32", "<i4": "I32", "|u1": "U8"}  # its names of types

Read = Callable[[Piece], memoryview]


@dataclass(frozen=True, eq=False)
class Array:
    """An array of a file, made a part at a time.

    Attributes:
        name: Name in the file.
        dtype: Type of the numbers.
        shape: Shape of the whole.
        parts: Makes it, along the first axis.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    parts: Callable[[], Iterator[np.ndarray]]


def safetensors(record: EncodingRecord, pieces: Sequence[Piece], read: Read) -> Iterator[Data]:
    """Yield the bytes of a safetensors file."""
    arrays = list(_arrays(record, pieces, read))
    rows, start = {}, 0
    for array in arrays:
        end = start + array.dtype.itemsize * int(np.prod(array.shape, dtype=np.int64))
        kind = SAFETENSORS[array.dtype.str]
        rows[array.name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, end]}
        start = end
    header = json.dumps(rows, separators=(",", ":")).encode()
    header = header.ljust(-(-len(header) // 8) * 8)
    yield len(header).to_bytes(8, "little") + header
    for array in arrays:
        for part in array.parts():
            yield part.reshape(-1).view(np.uint8).data


def npz(record: EncodingRecord, pieces: Sequence[Piece], read: Read) -> Iterator[Data]:
    """Yield the bytes of an npz file, without compression."""
    buffer = ByteBuffer()
    with ZipFile(buffer, "w", ZIP_STORED) as archive:
        for array in _arrays(record, pieces, read):
            with archive.open(ZipInfo(f"{array.name}.npy"), "w", force_zip64=True) as member:
                member.write(_npy_header(array))
                for part in array.parts():
                    member.write(part.reshape(-1).view(np.uint8).data)
                    yield buffer.take()
    yield buffer.take()


def _arrays(record: EncodingRecord, pieces: Sequence[Piece], read: Read) -> Iterator[Array]:
    """Yield every array of a file, the record last."""
    for cell in record.cells:
        shapes = {"omega": (cell.D,), "S": (cell.D,), "M": (cell.V, cell.D)}
        for token in record.tokens:
            yield _token_array(cell.name, token, (cell.rows, *shapes[token]), pieces, read)
        for key in KEYS:
            yield _key_array(cell.name, key, cell.rows, pieces)
    document = np.frombuffer(record.to_bytes(), np.uint8)
    yield Array(METADATA, document.dtype, document.shape, lambda: iter([document]))


def _token_array(cell: str, token: Token, shape: tuple[int, ...], pieces: Sequence[Piece], read: Read) -> Array:
    def parts() -> Iterator[np.ndarray]:
        for piece in pieces:
            yield piece.array(read(piece), cell, token)

    return Array(f"{cell}/{token}", FLOAT, shape, parts)


def _key_array(cell: str, key: str, rows: int, pieces: Sequence[Piece]) -> Array:
    return Array(f"{cell}/{key}", np.dtype("<i4"), (rows,), lambda: (piece.keys(cell)[key] for piece in pieces))


def _npy_header(array: Array) -> bytes:
    header = io.BytesIO()
    form = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(header, form)
    return header.getvalue()
