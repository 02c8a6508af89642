"""Reader of sealed files: checks every byte against the document, and the document against its seal. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic

from batteries.cell.artifact_kinds import ArtifactKind, name_in
from batteries.errors import FormatError, InputError, IntegrityError, PolicyError
from batteries.io.atomic_files import Data
from batteries.io.canonical_json import load_document
from batteries.io.texts import placeholders
from composer.sealed import block_digests
from composer.sealed.block_digests import BLOCK
from composer.sealed.file_format import MAX_HEADER, NUMPY, Layout, Said, header, layout, not_finite

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Opened(Generic[Said]):
    """Opened file: its document, the positions of its tensors, and its data."""

    document: Said
    layout: Layout
    data: memoryview

    def array(self, name: str) -> np.ndarray:
        """Return a tensor as a view of the file."""
        import numpy as np

        row = self.layout[name]
        return np.frombuffer(self.data[row.start : row.end], dtype=NUMPY[row.dtype]).reshape(row.shape)


def open_sealed(form: type[Said], data: Data, *, where: object, seal: str | None = None) -> Opened[Said]:
    """Open a file, and check every byte against its seal.

    Args:
        form: Class of the document.
        data: Bytes of the file.
        where: Path or name of the file, for error messages.
        seal: Expected seal; if None, the file's own seal is trusted.

    Raises:
        FormatError: a file of another kind, a non-canonical header, data of another size than declared, a flag that is
            neither 0 nor 1 (``FLAGS``), or an invalid document.
        IntegrityError: a document that does not match its seal (``SEAL``) or the expected one (``OTHER_SEAL``), or data that
            does not match its digests (``BLOCK_DIGEST``).
        PolicyError: a value that is not finite (``NON_FINITE``).
    """
    opened = _open_header(form, data, where)
    found = opened.document.seal
    if seal is not None and found != seal:
        raise IntegrityError("seal mismatch", code="OTHER_SEAL", expected=seal, found=found, where=where)
    _check_blocks(opened, where)
    return opened


def read_document(form: type[Said], data: Data, *, where: object) -> Said:
    """Read the document of a file, without checking its tensors.

    Raises:
        BatteriesError: as in :func:`open_sealed`, except for faults in the data.
    """
    return _open_header(form, data, where).document


def path_of(path: str | Path) -> Path:
    """Convert an argument to a path.

    Raises:
        InputError: not a path (``BAD_PATH``).
    """
    try:
        return Path(path)
    except TypeError as error:
        raise InputError("not a path", code="BAD_PATH", expected="a text or a Path", found=repr(path)) from error


def _open_header(form: type[Said], data: Data, where: object) -> Opened[Said]:
    """Open a file without checking its data."""
    view = memoryview(data)
    words, start = _words(form.KIND, view, where)
    document = _document(form, words, where)
    try:
        places = layout(document)
    except PolicyError as error:  # the writer cannot have produced it
        raise FormatError(error.what, code=error.code, expected=error.expected, found=error.found, where=where) from error
    if view[:start] != header(document, places):
        remedy = "Save it again."
        raise FormatError("header does not match its document", code="ST_NOT_CANONICAL", where=where, remedy=remedy)
    size = max((extent.end for extent in places.values()), default=0)
    if len(view) - start != size or len(document.blocks) != -(-size // BLOCK):
        expected = f"{size} bytes in {-(-size // BLOCK)} blocks"
        found = f"{len(view) - start} bytes, digests of {len(document.blocks)} blocks"
        raise FormatError("data size mismatch", code="ST_TAIL", expected=expected, found=found, where=where)
    return Opened(document, places, view[start:])


def _words(kind: ArtifactKind, view: memoryview, where: object) -> tuple[str, int]:
    """Return the document's text, and the start of the data."""
    if len(view) < 8:
        placeholders.refuse_unreadable(view, where)
        raise FormatError(f"too short for {kind.words}", code="ST_SHORT", found=f"{len(view)} bytes", where=where)
    _refuse_other_kind(kind, view, where)
    start = 8 + int.from_bytes(view[:8], "little")
    limit = min(MAX_HEADER, len(view) - 8)
    if start - 8 > limit:
        placeholders.refuse_unreadable(view, where)
        found = start - 8
        raise FormatError("header too large", code="ST_HEADER", expected=f"at most {limit}", found=found, where=where)
    try:
        text = bytes(view[8 + len(kind.start) : start]).decode()
        words = json.JSONDecoder().raw_decode(text)[0] if text.startswith('"') else None  # other values could cost much memory
        if isinstance(words, str):
            words.encode()  # refuse a lone surrogate, which JSON can escape but UTF-8 cannot encode
            return words, start
    except (ValueError, RecursionError) as error:
        raise FormatError("header is not JSON", code="JSON", found=error, where=where) from error
    raise FormatError("header without a document", code="ST_HEADER", expected="a text", where=where)


def _document(form: type[Said], words: str, where: object) -> Said:
    try:
        document = load_document(form, words.encode(), where=f"the document of {where}", limit=MAX_HEADER)
    except PolicyError as error:  # an invalid document, which the writer cannot have produced
        raise FormatError(error.what, code=error.code, found=error.found, where=where) from error
    found = document.digest()
    if found != document.seal:
        what = "document changed after sealing"
        raise IntegrityError(what, code="SEAL", expected=document.seal, found=found, where=where)
    return document


def _check_blocks(opened: Opened[Said], where: object) -> None:
    """Check the digest of every block, and that every number is finite and every flag 0 or 1."""
    rows = [(NUMPY[row.dtype], row.start, row.end) for row in opened.layout.values()]
    found = block_digests.look(opened.data, rows)
    pairs = enumerate(zip(opened.document.blocks, found, strict=True))
    other = [place for place, (wanted, (digest, _)) in pairs if digest != wanted]
    if other:
        place = other[0]
        raise IntegrityError(
            "block digest mismatch",
            code="BLOCK_DIGEST",
            expected=opened.document.blocks[place],
            found=f"{found[place][0]} in block {place}" + (f" and {len(other) - 1} others" if len(other) > 1 else ""),
            where=where,
            remedy="The file is damaged: download or save it again.",
        )
    if not all(finite for _, finite in found):
        raise not_finite([name for name in opened.layout if not _is_finite(opened, name)], where)
    for name, row in opened.layout.items():
        if row.dtype == "BOOL" and any(bytes(opened.data[row.start : row.end]).translate(None, b"\0\1")):
            raise FormatError("flag is neither 0 nor 1", code="FLAGS", found=name, where=where)


def _is_finite(opened: Opened[Said], name: str) -> bool:
    row = opened.layout[name]
    return block_digests.all_finite(opened.data[row.start : row.end], NUMPY[row.dtype])


def _refuse_other_kind(kind: ArtifactKind, view: memoryview, where: object) -> None:
    found = name_in(view)
    if found is None:
        placeholders.refuse_unreadable(view, where)
    if found != kind.name:
        reader = "batteries.Cell.read, if it is a cell" if found is None else "composer.load"
        raise FormatError(
            f"not {kind.words}", code=f"NOT_{kind.code}", found=found, where=where, remedy=f"Open it with {reader}."
        )
