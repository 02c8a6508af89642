"""Safe reading of foreign checkpoints: tensors by name and the settings beside them, without running any code.

A ``.pt`` file is a zip archive around a pickle, and a pickle is a program: :mod:`batteries.packaging.pickles` reads it as data.
A ``.safetensors`` file holds only tensors, and texts in its header.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from batteries import short_repr
from batteries.cell.cell import SUFFIX
from batteries.errors import BatteriesError, FormatError, InputError, PolicyError
from batteries.io.canonical_json import sha256
from batteries.io.texts import placeholders
from batteries.io.texts.hostile_json import load_loose
from batteries.packaging import foreign_state
from batteries.packaging.checkpoint_places import CheckpointFile, local_file
from batteries.packaging.foreign_array import Array, Bank, array_in
from batteries.packaging.pickles import inert_pickle, pickled_tensors
from batteries.text import listed

MAX_PICKLE = 4 * 2**20  # bytes of a pickle, or of a header; the largest seen is a hundred times smaller
MAX_ENTRIES = 4096  # entries of the archive: one per tensor, including the optimiser's
MAX_NAME = 200  # characters of a tensor's name

ZIP = b"PK\x03\x04"
PICKLE = b"\x80"
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

BESIDE = ("config", "cfg")  # texts of a safetensors header that are read

SAVE_AGAIN = "If you trust the file, load it with torch and save its state dict alone, preferably as safetensors."


@dataclass(frozen=True, eq=False)
class Opened:
    """A checkpoint that is in memory, from which each of its cells is taken without reading it again.

    Attributes:
        file: File.
        where: Path or address in messages; of a bank with its key.
        digest: SHA-256 of the file.
        loaded: Contents of the file, as data.
        array: Array in it, or None.
    """

    file: CheckpointFile
    where: str
    digest: str
    loaded: Any
    array: Array | None

    __repr__ = short_repr.fields

    def __str__(self) -> str:
        return self.where


AnyCheckpoint = str | Path | CheckpointFile | Opened


@dataclass(frozen=True, eq=False)
class Foreign:
    """A cell of a foreign checkpoint.

    Attributes:
        name: Name of the file, without its folder; of a bank with its key.
        digest: SHA-256 of the file.
        key: Entry of the file that the tensors are of; None if they are the file itself.
        tensors: Tensors by name, without wrappers and prefixes, of any shape and dtype.
        beside: Entries of the file beside the tensors, such as its config, as data.
        lines: Choices made in reading it, a sentence each.
    """

    name: str
    digest: str
    key: str | None
    tensors: dict[str, Tensor]
    beside: Mapping[str, Any]
    lines: tuple[str, ...]

    __repr__ = short_repr.fields


def opened(path: AnyCheckpoint) -> Opened:
    """Read a ``.safetensors`` file, or a ``.pt`` file in the zip format of torch 1.6 and later.

    Args:
        path: File, a link to it, or a file of a repository, of at most 1 GiB. One that is open already is returned as it is.

    Raises:
        NotFoundError: missing file, or not a file.
        PolicyError: pickle that calls more than makers of tensors, of NumPy's numbers and of paths (``UNSAFE_FORMAT``).
        FormatError: neither format, damaged, too large, or an array with an invalid config (``CONFIG``).
    """
    if isinstance(path, Opened):
        return path
    file = path if isinstance(path, CheckpointFile) else local_file(path)
    data = file.read()
    with _typed(file, data):
        if file.inside.suffix == SUFFIX:
            loaded = _of_safetensors(data)
            return Opened(file, str(file), sha256(data), loaded, array_in(loaded, file))
        return Opened(file, str(file), sha256(data), _load(data, file), None)


def read(path: AnyCheckpoint, key: str | None = None) -> Foreign:
    """Take the tensors of a cell out of a checkpoint.

    Args:
        path: Checkpoint, as in :func:`opened`.
        key: Entry of the file that has the weights; by default the first of the usual ones. Required for an array.

    Raises:
        InputError: no such entry, or an array without a key (``KEY``).
        FormatError: no state dict of tensors, or one of a relative of PatchSVAE (``RELATIVE``).
        BatteriesError: any error of :func:`opened`.
    """
    found = opened(path)
    bank = _bank(found.array, key, found) if found.array else None
    loaded = bank.loaded if bank else found.loaded
    with _typed(found):
        skipped = sorted(name for name in inert_pickle.skipped_in(loaded) if name.startswith(("numpy.", "pathlib.")))
        if skipped and not foreign_state.entries_of(loaded):
            raise _unsafe(", ".join(skipped), found)
        state = foreign_state.choose(loaded, key, found)
    unread = [f"left unread beside the weights: {', '.join(skipped)}"] if skipped else []
    name = found.file.inside.name.encode(errors="replace").decode() + (f":{key}" if bank else "")
    lines = (*(bank.lines if bank else ()), *state.lines, *unread)
    return Foreign(name, found.digest, state.key, state.tensors, state.beside, lines)


def _bank(array: Array, key: str | None, where: object) -> Bank:
    """Return the bank of an array that has a key."""
    if key is not None and key in array.banks:
        return array.banks[key]
    raise InputError(
        "no such bank in an array of cells",
        code="KEY",
        expected=listed(list(array.banks)),
        found=key or "no key",
        where=where,
        remedy="Name a bank with key=, or --key; or adopt all of them: batteries adopt FILE --name '{band}/{stem}'.",
    )


def floats(tensors: Mapping[str, Tensor], where: object) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Convert tensors to float32 arrays; return them with the names of the other dtypes converted.

    Raises:
        FormatError: dtypes other than floating-point of 16, 32 or 64 bits; all such tensors are listed.
    """
    wrong = [f"{name} is {_type(tensor)}" for name, tensor in sorted(tensors.items()) if tensor.dtype not in FLOATS]
    if wrong:
        expected = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOATS)
        raise FormatError("unsupported tensor dtypes", code="ST_DTYPE", expected=expected, found="; ".join(wrong), where=where)
    converted = {_type(tensor) for tensor in tensors.values()} - {"float32"}
    return {name: tensor.detach().float().numpy() for name, tensor in tensors.items()}, tuple(sorted(converted))


@contextlib.contextmanager
def _typed(where: object, data: bytes = ZIP) -> Iterator[None]:
    """Convert any error of a reader of untrusted bytes to this package's; hide its warnings, meant for authors of files.

    Bytes that are no archive may stand in for another file, which is then named.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except BatteriesError:
        raise
    except pickle.UnpicklingError as error:
        raise _unsafe(str(error).split("\n")[0][:500], where) from error
    except Exception as error:  # the readers do not document their errors
        if data[:4] != ZIP:
            placeholders.refuse_unreadable(data, where)
        found = f"{type(error).__name__}: {error}"[:500]
        raise FormatError("unreadable checkpoint", code="CHECKPOINT", found=found, where=where) from error


def _of_safetensors(data: bytes) -> Any:
    """Return the tensors of a file, and the texts of its header that are tables in JSON under its usual names."""
    length = int.from_bytes(data[:8], "little")
    if length > MAX_PICKLE:
        raise ValueError(f"a header of {length} bytes, at most {MAX_PICKLE} expected")
    texts = _json(data[8 : 8 + length], "header").get("__metadata__", {})
    beside = {name: _json(texts[name].encode(), name) for name in BESIDE if texts.get(name, "").startswith("{")}
    return load_safetensors(data) | beside


def _json(data: bytes, name: str) -> Any:
    try:
        return load_loose(data, where=name, limit=MAX_PICKLE)
    except FormatError as error:
        raise ValueError(error) from error  # one error of the file, whose bytes may stand in for another


def _load(data: bytes, where: object) -> Any:
    if data[:4] != ZIP:
        if data[:1] == PICKLE:
            raise _unsafe("a bare pickle", where)
        placeholders.refuse_unreadable(data, where)
        raise FormatError("not a checkpoint", code="CHECKPOINT", expected=f"a {SUFFIX} file or a zip archive", where=where)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        program, folder = _pickle_of(archive, len(data), where)
    calls = inert_pickle.refused(program)
    if words := pickled_tensors.layouts_in(calls):
        remedy = "Save a state dict of dense tensors: with tensor.dequantize(), to_dense() or float(), and on a real device."
        expected = "dense tensors of 16, 32 or 64 bits"
        found = f"tensors {listed(words)}"
        raise FormatError("unsupported tensors", code="ST_LAYOUT", expected=expected, found=found, where=where, remedy=remedy)
    if calls:
        raise _unsafe(", ".join(calls[:20]), where)
    return inert_pickle.load(program, zipfile.ZipFile(io.BytesIO(data)), folder)


def _pickle_of(archive: zipfile.ZipFile, size: int, where: object) -> tuple[bytes, str]:
    """Extract the pickle of an archive, and its folder, refusing zip bombs: entries must be uncompressed and not overlap."""
    rows = archive.infolist()
    if len(rows) > MAX_ENTRIES or len({row.filename for row in rows}) < len(rows):
        expected = f"at most {MAX_ENTRIES} entries, each of its own name"
        raise FormatError("not a checkpoint archive", code="CHECKPOINT", expected=expected, found=len(rows), where=where)
    total = sum(row.file_size for row in rows)
    if total > size or any(row.compress_type != zipfile.ZIP_STORED for row in rows):
        raise FormatError(
            "archive unpacks to more than its size",
            code="TOO_LARGE",
            expected=f"uncompressed entries, {size} bytes together",
            found=total,
            where=where,
        )
    pickles = [row for row in rows if row.filename.endswith("/data.pkl")]
    if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE:
        expected = f"one data.pkl of at most {MAX_PICKLE} bytes"
        raise FormatError("not a checkpoint archive", code="CHECKPOINT", expected=expected, where=where)
    return archive.read(pickles[0]), pickles[0].filename.removesuffix("/data.pkl")


def _unsafe(found: str, where: object) -> PolicyError:
    return PolicyError(
        "checkpoint would run code when loaded",
        code="UNSAFE_FORMAT",
        expected="only tensors, numbers and strings, and beside them NumPy's numbers and paths",
        found=found,
        where=where,
        remedy=SAVE_AGAIN,
    )


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
