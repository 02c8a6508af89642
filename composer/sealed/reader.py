"""Reading sealed files: every byte compared with what the document says, and the document with its seal. No torch here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic

from batteries.cell.artifact_kinds import ArtifactKind, name_in
from batteries.errors import FormatError, InputError, IntegrityError, PolicyError
from batteries.io import placeholders
from batteries.io.atomic_files import Data
from batteries.io.canonical_json import load_document
from composer.sealed import block_digests
from composer.sealed.block_digests import BLOCK
from composer.sealed.file_format import MAX_HEADER, NUMPY, Layout, Said, header, layout, not_finite

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Opened(Generic[Said]):
    """A file that was read: what it says, where its tensors are, and its data."""

    document: Said
    layout: Layout
    data: memoryview

    def array(self, name: str) -> np.ndarray:
        """Tensor, as a view of the file."""
        import numpy as np

        row = self.layout[name]
        return np.frombuffer(self.data[row.start : row.end], dtype=NUMPY[row.dtype]).reshape(row.shape)


def open_sealed(form: type[Said], data: Data, *, where: object, seal: str | None = None) -> Opened[Said]:
    """Whole file, every byte of it compared with the seal's word.

    Args:
        form: Of its document.
        data: The file.
        where: What it is, for the message.
        seal: What somebody promised; left out, the file's own is believed.

    Raises:
        FormatError: a file of another kind, a header that the writer does not make, another size than it says, a flag that is
            neither 0 nor 1 (``FLAGS``), or a document that cannot be.
        IntegrityError: not the document that was sealed (``SEAL``) or promised (``OTHER_SEAL``), or other data
            (``BLOCK_DIGEST``).
        PolicyError: a value that is not finite (``NON_FINITE``).
    """
    opened = _open_header(form, data, where)
    found = opened.document.seal
    if seal is not None and found != seal:
        raise IntegrityError("another file than was promised", code="OTHER_SEAL", expected=seal, found=found, where=where)
    _check_blocks(opened, where)
    return opened


def read_document(form: type[Said], data: Data, *, where: object) -> Said:
    """What a file says of itself; its tensors are not looked at.

    Raises:
        BatteriesError: as :func:`open_sealed`, but for what only the tensors tell.
    """
    return _open_header(form, data, where).document


def path_of(path: str | Path) -> Path:
    """Path that somebody gave.

    Raises:
        InputError: something else (``BAD_PATH``).
    """
    try:
        return Path(path)
    except TypeError as error:
        raise InputError("not a path", code="BAD_PATH", expected="a text or a Path", found=repr(path)) from error


def _open_header(form: type[Said], data: Data, where: object) -> Opened[Said]:
    """File whose data nobody has looked at."""
    view = memoryview(data)
    words, start = _words(form.KIND, view, where)
    document = _document(form, words, where)
    try:
        places = layout(document)
    except PolicyError as error:  # what nobody could have written
        raise FormatError(error.what, code=error.code, expected=error.expected, found=error.found, where=where) from error
    if view[:start] != header(document, places):
        remedy = "Save it again."
        raise FormatError("a header that is not its document's", code="ST_NOT_CANONICAL", where=where, remedy=remedy)
    size = max((extent.end for extent in places.values()), default=0)
    if len(view) - start != size or len(document.blocks) != -(-size // BLOCK):
        expected = f"{size} bytes in {-(-size // BLOCK)} blocks"
        found = f"{len(view) - start} bytes, digests of {len(document.blocks)} blocks"
        raise FormatError("data of another size", code="ST_TAIL", expected=expected, found=found, where=where)
    return Opened(document, places, view[start:])


def _words(kind: ArtifactKind, view: memoryview, where: object) -> tuple[str, int]:
    """Document's words, and where the data starts."""
    if len(view) < 8:
        placeholders.refuse_unreadable(view, where)
        raise FormatError(f"too short for {kind.words}", code="ST_SHORT", found=f"{len(view)} bytes", where=where)
    _refuse_other_kind(kind, view, where)
    start = 8 + int.from_bytes(view[:8], "little")
    limit = min(MAX_HEADER, len(view) - 8)
    if start - 8 > limit:
        placeholders.refuse_unreadable(view, where)
        found = start - 8
        raise FormatError("a header too large", code="ST_HEADER", expected=f"at most {limit}", found=found, where=where)
    try:
        text = bytes(view[8 + len(kind.start) : start]).decode()
        words, _ = json.JSONDecoder().raw_decode(text)
        if isinstance(words, str):
            words.encode()  # a lone surrogate can be escaped, and not written
            return words, start
    except (ValueError, RecursionError) as error:
        raise FormatError("a header that is not JSON", code="JSON", found=error, where=where) from error
    raise FormatError("a header without a document", code="ST_HEADER", expected="a text", where=where)


def _document(form: type[Said], words: str, where: object) -> Said:
    try:
        document = load_document(form, words.encode(), where=f"the document of {where}", limit=MAX_HEADER)
    except PolicyError as error:  # one that cannot be: nobody saved it
        raise FormatError(error.what, code=error.code, found=error.found, where=where) from error
    found = document.digest()
    if found != document.seal:
        what = "a document that was changed after it was sealed"
        raise IntegrityError(what, code="SEAL", expected=document.seal, found=found, where=where)
    return document


def _check_blocks(opened: Opened[Said], where: object) -> None:
    """Every block's digest, and every number."""
    rows = [(NUMPY[row.dtype], row.start, row.end) for row in opened.layout.values()]
    found = block_digests.look(opened.data, rows)
    pairs = enumerate(zip(opened.document.blocks, found, strict=True))
    other = [place for place, (wanted, (digest, _)) in pairs if digest != wanted]
    if other:
        place = other[0]
        raise IntegrityError(
            "other data than was sealed",
            code="BLOCK_DIGEST",
            expected=opened.document.blocks[place],
            found=f"{found[place][0]} in block {place}" + (f" and {len(other) - 1} others" if len(other) > 1 else ""),
            where=where,
            remedy="The file was damaged; fetch it or save it again.",
        )
    if not all(finite for _, finite in found):
        raise not_finite([name for name in opened.layout if not _is_finite(opened, name)], where)
    for name, row in opened.layout.items():
        if row.dtype == "BOOL" and any(bytes(opened.data[row.start : row.end]).translate(None, b"\0\1")):
            raise FormatError("a flag that is neither 0 nor 1", code="FLAGS", found=name, where=where)


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
