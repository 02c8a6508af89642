"""Tokens as a table in Parquet: one row for every image, cell and patch. Needs the ``parquet`` extra.

    image        int32, place of the image in the record
    name         string, name of the image
    row, column  int32, place of the patch in the image's grid
    cell         string
    omega, S     list of D float32
    M            list of V D float32, row after row

Rows are in the order of images, then of cells, then of patches. The record is JSON under the key ``svae-batteries`` of the
schema's metadata.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from batteries.io.atomic_files import Data
from composer.encoding.arguments import pyarrow
from composer.encoding.array_files import KEYS, Read
from composer.encoding.byte_buffer import ByteBuffer
from composer.encoding.record import RECORD, EncodingRecord
from composer.encoding.token_layout import Piece

REPEATED = ["image", "name", "row", "column", "cell"]  # columns whose values are few


def parquet(record: EncodingRecord, pieces: Sequence[Piece], read: Read) -> Iterator[Data]:
    """Yield the bytes of a Parquet file, with one row group for every group of images."""
    arrow, files = pyarrow()
    number, text = arrow.int32(), arrow.string()
    columns = {"image": number, "name": text, "row": number, "column": number, "cell": text}
    columns |= dict.fromkeys(record.tokens, arrow.list_(arrow.float32()))
    schema = arrow.schema(list(columns.items()), metadata={RECORD: record.to_bytes()})
    buffer = ByteBuffer()
    with files.ParquetWriter(buffer, schema, compression="none", use_dictionary=REPEATED) as writer:
        for piece in pieces:
            data = read(piece)
            rows = [_rows(arrow, schema, record, piece, data, place) for place in range(len(piece.images))]
            writer.write_table(arrow.concat_tables([table for image in rows for table in image]))
            yield buffer.take()
    yield buffer.take()


def _rows(arrow: Any, schema: Any, record: EncodingRecord, piece: Piece, data: memoryview, place: int) -> Iterator[Any]:
    """Yield the table of every cell for one image of a group."""
    for cell in record.cells:
        patches = math.prod(piece.grid(cell.name))
        keys = {key: values[place * patches : (place + 1) * patches] for key, values in piece.keys(cell.name).items()}
        columns: dict[str, Any] = {key: arrow.array(keys[key]) for key in KEYS}
        columns |= {"name": arrow.repeat(piece.images[place].name, patches), "cell": arrow.repeat(cell.name, patches)}
        for token in record.tokens:
            columns[token] = _lists(arrow, piece.array(data, cell.name, token)[place])
        yield arrow.table([columns[name] for name in schema.names], schema=schema)


def _lists(arrow: Any, values: np.ndarray) -> Any:
    """Return an array of lists, one for every patch (N, ...)."""
    ends = np.arange(len(values) + 1, dtype=np.int32) * math.prod(values.shape[1:])
    return arrow.ListArray.from_arrays(arrow.array(ends, arrow.int32()), arrow.array(values.reshape(-1)))
