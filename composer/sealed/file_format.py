"""Sealed files: a document and tensors in one safetensors file, read strictly and written reproducibly. Imports no torch.

    8 bytes       size of the header, little-endian
    header        {"__metadata__":{"svae-batteries.<kind>":"<document>"},"<tensor>":{"dtype","shape","data_offsets"},...}
    data          the tensors, without gaps, large ones aligned to vector registers

The document is canonical JSON, and holds the SHA-256 of every block of the data and its own digest, the seal. Names, shapes and
offsets of the tensors follow from it, so a header is valid only if it equals, byte by byte, the header that the writer makes of
its document. Trusting the seal is therefore enough to trust the file. :mod:`composer.sealed.reader` reads such files.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from batteries.cell.artifact_kinds import ArtifactKind
from batteries.cell.manifest import Sha256
from batteries.errors import InputError, PolicyError
from batteries.io import canonical_json
from batteries.io.atomic_files import Data
from batteries.io.canonical_json import Document
from batteries.text import listed
from composer.sealed import block_digests

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray]

MAX_HEADER = 16 * 2**20
MAX_TENSORS = 2**18  # more than a header of that size can hold
ALIGNMENT = 64  # bytes of a vector register; tensors of whole registers come first and stay aligned
NO_SEAL = "0" * 64

Dtype = Literal["F32", "F64", "BOOL"]
Form = tuple[str, Dtype, tuple[int, ...]]  # name, type and shape of a tensor
ITEM: dict[Dtype, int] = {"F32": 4, "F64": 8, "BOOL": 1}
NUMPY: dict[Dtype, str] = {"F32": "<f4", "F64": "<f8", "BOOL": "|b1"}

# numpy is imported inside functions: a command that describes a file reads no tensors


class Sealed(Document, ABC):
    """Base of the documents of sealed files.

    Attributes:
        blocks: SHA-256 of every 4 MiB of the data.
        seal: SHA-256 of the canonical bytes of all other fields.
    """

    KIND: ClassVar[ArtifactKind]

    blocks: tuple[Sha256, ...]
    seal: Sha256

    @abstractmethod
    def tensors(self) -> Iterator[Form]:
        """Yield name, dtype and shape of every tensor in the data."""

    def digest(self) -> str:
        """Compute the seal."""
        return canonical_json.sha256(canonical_json.dump(self.model_dump(mode="json", exclude={"seal"})))


Said = TypeVar("Said", bound=Sealed)


@dataclass(frozen=True)
class Extent:
    """Type, shape and position of a tensor in the data."""

    dtype: Dtype
    shape: tuple[int, ...]
    start: int
    end: int


Layout = dict[str, Extent]


def layout(document: Sealed) -> Layout:
    """Place every tensor, in the order of the file.

    Raises:
        PolicyError: more tensors or bytes than a file of the kind may have (``MODEL_TOO_LARGE``, ``MAPS_TOO_LARGE``).
    """
    kind = document.KIND
    shapes: dict[str, tuple[Dtype, tuple[int, ...]]] = {}
    for name, dtype, shape in document.tensors():
        shapes[name] = dtype, shape
        if len(shapes) > MAX_TENSORS:
            raise _too_large(kind, "tensors", MAX_TENSORS, f"{MAX_TENSORS} and more")
    sizes = {name: ITEM[dtype] * math.prod(shape) for name, (dtype, shape) in shapes.items()}
    found, start = {}, 0
    for name in sorted(shapes, key=lambda name: (sizes[name] % ALIGNMENT != 0, -ITEM[shapes[name][0]], name)):
        found[name] = Extent(*shapes[name], start, start + sizes[name])
        start += sizes[name]
    if start > kind.limit:
        raise _too_large(kind, "bytes", kind.limit, start)
    return found


def header(document: Sealed, places: Layout) -> bytes:
    """Return the bytes before the data: the header's size, and the header."""
    rows = {
        name: {"dtype": row.dtype, "shape": list(row.shape), "data_offsets": [row.start, row.end]}
        for name, row in places.items()
    }
    words = json.dumps(rows, separators=(",", ":"), ensure_ascii=False)
    quoted = json.dumps(document.to_bytes().decode(), ensure_ascii=False).encode()
    text = document.KIND.start + quoted + b"}" + (b"," + words[1:].encode() if rows else b"}")
    text = text.ljust(-(-(8 + len(text)) // ALIGNMENT) * ALIGNMENT - 8)
    return len(text).to_bytes(8, "little") + text


def write(form: type[Said], fields: Mapping[str, Any], arrays: Arrays) -> tuple[Said, list[Data]]:
    """Make the document of a file, and the file in parts, without copying tensors.

    Args:
        form: Class of the document.
        fields: Fields of the document, except ``blocks`` and ``seal``.
        arrays: Arrays by tensor name, matching the document's tensors.

    Raises:
        InputError: tensors that do not match the document (``PARTS``).
        PolicyError: values that are not finite (``NON_FINITE``), or a file too large, see :func:`layout`.
    """
    import numpy as np

    kind = form.KIND
    places = layout(form(**fields, blocks=(), seal=NO_SEAL))
    _refuse_misfits(places, arrays, kind)
    wrong = [name for name in places if not np.isfinite(arrays[name]).all()]
    if wrong:
        raise not_finite(wrong, f"{kind.words} to be saved")
    data = [np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data for name in places]
    unsealed = form(**fields, blocks=tuple(block_digests.digests(data)), seal=NO_SEAL)
    document = unsealed.model_copy(update={"seal": unsealed.digest()})
    head = header(document, places)
    size = len(head) + sum(len(part) for part in data)
    if len(head) - 8 > MAX_HEADER or size > kind.limit:
        raise _too_large(kind, "bytes", f"{kind.limit}, and {MAX_HEADER} of header", f"{size}, and {len(head) - 8}")
    return document, [head, *data]


def not_finite(names: Sequence[str], where: object) -> PolicyError:
    """Make the error for tensors with values that are not finite."""
    remedy = "Its sources were damaged, or a training diverged."
    return PolicyError("values not finite", code="NON_FINITE", found=listed(names), where=where, remedy=remedy)


def _refuse_misfits(places: Layout, arrays: Arrays, kind: ArtifactKind) -> None:
    """Refuse arrays that do not match a layout."""
    wanted = {name: (row.shape, NUMPY[row.dtype]) for name, row in places.items()}
    given = {name: (array.shape, array.dtype.str) for name, array in arrays.items()}
    wrong = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
    if wrong:
        raise InputError(f"tensors do not match {kind.words}", code="PARTS", found=listed(wrong))


def _too_large(kind: ArtifactKind, what: str, most: object, found: object) -> PolicyError:
    code, remedy = f"{kind.name.upper()}_TOO_LARGE", "Put fewer cells into one file."
    return PolicyError(f"too many {what} for {kind.words}", code=code, expected=most, found=found, remedy=remedy)
