"""The bytes of a composed model: one safetensors file, strictly read and reproducibly written. No torch here.

    8 bytes       size of the header, little-endian
    header        {"__metadata__":{"svae-batteries.model":"<document>"},"<tensor>":{"dtype","shape","data_offsets"},...}
    data          the tensors, without a hole, the large ones on addresses that vector units like

The document is canonical JSON and says everything: the composition, the specs, every cell's digests, what the maps are, and the
SHA-256 of every block of the data. Its own digest, the seal, is in it. Names, shapes and places of the tensors follow from
it, so a header is right if it is the very bytes that the writer makes of its document. Whoever trusts the seal trusts the file.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from batteries import cellfile, files
from batteries.canonical import load_document
from batteries.cellfile import MODEL_START
from batteries.errors import FormatError, InputError, IntegrityError, PolicyError
from batteries.files import Data
from batteries.manifest import MAX_BLOB
from composer import blocks
from composer.blocks import BLOCK
from composer.saved import Artifact, SavedCell

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray]

MAX_HEADER = 16 * 2**20
MAX_TENSORS = 2**18  # more rows than a header of that size can hold
ALIGNMENT = 64  # bytes of a vector register: tensors of whole ones come first, and keep to them
SHOWN = 6  # in a message
NO_SEAL = "0" * 64

Dtype = Literal["F32", "F64"]
ITEM: dict[Dtype, int] = {"F32": 4, "F64": 8}
NUMPY: dict[Dtype, str] = {"F32": "<f4", "F64": "<f8"}

# Functions import numpy themselves: a command that shows what a model is reads no weights.


@dataclass(frozen=True)
class Extent:
    """Where a tensor is in the data."""

    dtype: Dtype
    shape: tuple[int, ...]
    start: int
    end: int


Layout = dict[str, Extent]


@dataclass(frozen=True)
class Opened:
    """A file that was read: what it says, where its tensors are, and its data."""

    artifact: Artifact
    layout: Layout
    data: memoryview

    def array(self, name: str) -> np.ndarray:
        """A tensor, as a view of the file."""
        import numpy as np

        row = self.layout[name]
        return np.frombuffer(self.data[row.start : row.end], dtype=NUMPY[row.dtype]).reshape(row.shape)

    def weights(self) -> Iterator[tuple[SavedCell, dict[str, np.ndarray]]]:
        """Every cell with its arrays, views of the file, group by group."""
        for place, spec in enumerate(self.artifact.groups):
            stacked = {name: self.array(f"groups.{place}.{name}") for name in spec.tensor_shapes()}
            members = (cell for cell in self.artifact.cells if cell.group == place)
            for row, cell in enumerate(members):
                yield cell, {name: array[row] for name, array in stacked.items()}


def layout(artifact: Artifact) -> Layout:
    """Where every tensor is, in the order of the file.

    Raises:
        PolicyError: more tensors or bytes than a file may have (``MODEL_TOO_LARGE``).
    """
    shapes: dict[str, tuple[Dtype, tuple[int, ...]]] = {}
    for name, dtype, shape in _tensors(artifact):
        shapes[name] = dtype, shape
        if len(shapes) > MAX_TENSORS:
            raise _too_large("tensors", MAX_TENSORS, f"{MAX_TENSORS} and more")
    sizes = {name: ITEM[dtype] * math.prod(shape) for name, (dtype, shape) in shapes.items()}
    found, start = {}, 0
    for name in sorted(shapes, key=lambda name: (sizes[name] % ALIGNMENT != 0, -ITEM[shapes[name][0]], name)):
        found[name] = Extent(*shapes[name], start, start + sizes[name])
        start += sizes[name]
    if start > MAX_BLOB:
        raise _too_large("bytes", MAX_BLOB, start)
    return found


def write(fields: Mapping[str, Any], arrays: Arrays) -> tuple[Artifact, list[Data]]:
    """The document of a model, and its file in parts; nothing is copied.

    Args:
        fields: Of :class:`Artifact`, but for ``blocks`` and ``seal``.
        arrays: By tensor name, those of the layout.

    Raises:
        InputError: other tensors than the document promises (``PARTS``).
        PolicyError: values that are not finite (``NON_FINITE``), or more than a file may have (``MODEL_TOO_LARGE``).
    """
    import numpy as np

    places = layout(Artifact(**fields, blocks=(), seal=NO_SEAL))
    _refuse_misfits(places, arrays)
    wrong = [name for name in places if not np.isfinite(arrays[name]).all()]
    if wrong:
        raise _not_finite(wrong, "the model to be saved")
    data = [np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data for name in places]
    unsealed = Artifact(**fields, blocks=tuple(blocks.digests(data)), seal=NO_SEAL)
    artifact = unsealed.model_copy(update={"seal": unsealed.digest()})
    head = _header(artifact.to_bytes().decode(), places)
    size = len(head) + sum(len(part) for part in data)
    if len(head) - 8 > MAX_HEADER or size > MAX_BLOB:
        raise _too_large("bytes", f"{MAX_BLOB}, and {MAX_HEADER} of header", f"{size}, and {len(head) - 8}")
    return artifact, [head, *data]


def open_artifact(data: Data, *, where: object, seal: str | None = None, lock: bool = True) -> Opened:
    """A whole file, every byte of it compared with the seal's word.

    Args:
        data: The file.
        where: What it is, for the message.
        seal: What somebody promised; left out, the file's own is believed.
        lock: Whether every cell's weights are compared with its own digest too, which takes about as long again.

    Raises:
        FormatError: a header that breaks the rules above, another size than it says, or a model that cannot be put together.
        IntegrityError: not the document that was sealed (``SEAL``) or promised (``OTHER_SEAL``), other data
            (``BLOCK_DIGEST``), or cells that are not those of the lock (``TENSOR_DIGEST``).
        PolicyError: a value that is not finite.
    """
    opened = _open_header(data, where)
    found = opened.artifact.seal
    if seal is not None and found != seal:
        raise IntegrityError("another model than was promised", code="OTHER_SEAL", expected=seal, found=found, where=where)
    _check_blocks(opened, where)
    if lock:
        _check_lock(opened, where)
    return opened


def read_artifact(path: str | Path) -> Artifact:
    """What a model's file says of itself; the weights are not looked at.

    Raises:
        BatteriesError: as :func:`composer.load`, but for what only the weights tell.
    """
    path = path_of(path)
    return _open_header(files.mapped(path, limit=MAX_BLOB), path).artifact


def path_of(path: str | Path) -> Path:
    """A path that somebody gave.

    Raises:
        InputError: something else (``BAD_PATH``).
    """
    try:
        return Path(path)
    except TypeError as error:
        raise InputError("not a path", code="BAD_PATH", expected="a text or a Path", found=repr(path)) from error


def _open_header(data: Data, where: object) -> Opened:
    """A file whose data nobody has looked at."""
    view = memoryview(data)
    words, start = _document(view, where)
    artifact = _artifact(words, where)
    try:
        places = layout(artifact)
    except PolicyError as error:  # what nobody could have written
        raise FormatError(error.what, code=error.code, expected=error.expected, found=error.found, where=where) from error
    if view[:start] != _header(words, places):
        remedy = "Save the model again."
        raise FormatError("a header that is not its document's", code="ST_NOT_CANONICAL", where=where, remedy=remedy)
    size = max((extent.end for extent in places.values()), default=0)
    if len(view) - start != size or len(artifact.blocks) != -(-size // BLOCK):
        expected = f"{size} bytes in {-(-size // BLOCK)} blocks"
        found = f"{len(view) - start} bytes, digests of {len(artifact.blocks)} blocks"
        raise FormatError("data of another size", code="ST_TAIL", expected=expected, found=found, where=where)
    return Opened(artifact, places, view[start:])


def _tensors(artifact: Artifact) -> Iterator[tuple[str, Dtype, tuple[int, ...]]]:
    """Name, type and shape of every tensor."""
    counts = Counter(cell.group for cell in artifact.cells)
    for place, spec in enumerate(artifact.groups):
        for name, shape in spec.tensor_shapes().items():
            yield f"groups.{place}.{name}", "F32", (counts[place], *shape)
    if (frame := artifact.frame) is not None:
        yield "frame.tokens", "F64", (frame.rows, frame.width)
        yield from _map("frame", (len(frame.maps),), frame.width)
    for place, (_, relay) in enumerate(sorted(artifact.relays.items())):
        yield from _map(f"relays.{place}", (), relay.width)
    for place, (_, shapes) in enumerate(sorted(artifact.routers.items())):
        for name, shape in shapes.items():
            yield f"routers.{place}.{name}", "F32", shape


def _map(prefix: str, outer: tuple[int, ...], width: int) -> Iterator[tuple[str, Dtype, tuple[int, ...]]]:
    for name, shape in (("rotation", (width, width)), ("centre", (width,)), ("translation", (width,))):
        yield f"{prefix}.{name}", "F64", (*outer, *shape)


def _header(document: str, places: Layout) -> bytes:
    """The size of the header and the header, up to the first byte of data."""
    rows = {
        name: {"dtype": row.dtype, "shape": list(row.shape), "data_offsets": [row.start, row.end]}
        for name, row in places.items()
    }
    words = json.dumps(rows, separators=(",", ":"), ensure_ascii=False)
    quoted = json.dumps(document, ensure_ascii=False).encode()
    text = MODEL_START + quoted + b"}" + (b"," + words[1:].encode() if rows else b"}")
    text = text.ljust(-(-(8 + len(text)) // ALIGNMENT) * ALIGNMENT - 8)
    return len(text).to_bytes(8, "little") + text


def _document(view: memoryview, where: object) -> tuple[str, int]:
    """The document's words, and where the data starts."""
    if len(view) < 8:
        raise FormatError("too short for a model", code="ST_SHORT", found=f"{len(view)} bytes", where=where)
    start = 8 + int.from_bytes(view[:8], "little")
    limit = min(MAX_HEADER, len(view) - 8)
    if start - 8 > limit:
        found = start - 8
        raise FormatError("a header too large", code="ST_HEADER", expected=f"at most {limit}", found=found, where=where)
    if not cellfile.is_model(view):
        remedy = "A cell is read by batteries.Cell.read; a model is what composer.save wrote."
        raise FormatError("not a composed model", code="NOT_A_MODEL", where=where, remedy=remedy)
    try:
        text = bytes(view[8 + len(MODEL_START) : start]).decode()
        words, _ = json.JSONDecoder().raw_decode(text)
        if isinstance(words, str):
            words.encode()  # a lone surrogate can be escaped, and not written
            return words, start
    except (ValueError, RecursionError) as error:
        raise FormatError("a header that is not JSON", code="JSON", found=error, where=where) from error
    raise FormatError("a header without a document", code="ST_HEADER", expected="a text", where=where)


def _artifact(words: str, where: object) -> Artifact:
    try:
        artifact = load_document(Artifact, words.encode(), where=f"the document of {where}", limit=MAX_HEADER)
    except PolicyError as error:  # a composition that cannot be: nobody saved one
        raise FormatError(error.what, code=error.code, found=error.found, where=where) from error
    found = artifact.digest()
    if found != artifact.seal:
        what = "a document that was changed after it was sealed"
        raise IntegrityError(what, code="SEAL", expected=artifact.seal, found=found, where=where)
    return artifact


def _check_blocks(opened: Opened, where: object) -> None:
    """Every block's digest, and every number."""
    rows = [(NUMPY[row.dtype], row.start, row.end) for row in opened.layout.values()]
    found = blocks.look(opened.data, rows)
    pairs = enumerate(zip(opened.artifact.blocks, found, strict=True))
    other = [place for place, (wanted, (digest, _)) in pairs if digest != wanted]
    if other:
        place = other[0]
        raise IntegrityError(
            "other data than was sealed",
            code="BLOCK_DIGEST",
            expected=opened.artifact.blocks[place],
            found=f"{found[place][0]} in block {place}" + (f" and {len(other) - 1} others" if len(other) > 1 else ""),
            where=where,
            remedy="The file was damaged; fetch it or save it again.",
        )
    if not all(finite for _, finite in found):
        raise _not_finite([name for name in opened.layout if not _is_finite(opened, name)], where)


def _check_lock(opened: Opened, where: object) -> None:
    """Every cell's weights, against its digest."""
    other = [cell.name for cell, arrays in opened.weights() if cellfile.tensor_digest(arrays) != cell.tensors]
    if other:
        remedy = "The model is not of the cells that it names; compose it again from them."
        raise IntegrityError(
            "cells that are not those of the lock", code="TENSOR_DIGEST", found=_listed(other), where=where, remedy=remedy
        )


def _refuse_misfits(places: Layout, arrays: Arrays) -> None:
    """Refuse arrays that are not those of a layout."""
    wanted = {name: (row.shape, NUMPY[row.dtype]) for name, row in places.items()}
    given = {name: (array.shape, array.dtype.str) for name, array in arrays.items()}
    wrong = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
    if wrong:
        raise InputError("tensors that do not fit the model", code="PARTS", found=_listed(wrong))


def _is_finite(opened: Opened, name: str) -> bool:
    row = opened.layout[name]
    return blocks.all_finite(opened.data[row.start : row.end], NUMPY[row.dtype])


def _not_finite(names: Sequence[str], where: object) -> PolicyError:
    return PolicyError(
        "values that are not finite",
        code="NON_FINITE",
        found=_listed(names),
        where=where,
        remedy="A router's training diverged, or a cell was damaged before it was composed.",
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _too_large(what: str, most: object, found: object) -> PolicyError:
    remedy = "Put fewer cells into one model."
    return PolicyError(f"more {what} than a model may have", code="MODEL_TOO_LARGE", expected=most, found=found, remedy=remedy)
