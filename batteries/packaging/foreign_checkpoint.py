"""Safe reading of foreign checkpoints: tensors by name, without running any code.

A ``.pt`` file is a zip archive around a pickle, and a pickle is a program. It passes two readers. The one here scans the pickle
without running it, and refuses every name except the few that make tensors; torch's own weights-only reader, which imports
nothing by name, then builds them. A ``.safetensors`` file holds only tensors.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import pickletools
import re
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
from batteries.cell.weights_file import MAX_TENSORS
from batteries.errors import BatteriesError, FormatError, NotFoundError, PolicyError
from batteries.io import atomic_files, placeholders
from batteries.io.canonical_json import sha256

MAX_FOREIGN = 2**30  # bytes: weights of the largest cell in float64, with two moments of an optimiser, and as much again
MAX_PICKLE = 4 * 2**20  # bytes; the largest seen is a hundred times smaller
MAX_ENTRIES = 4096  # entries of the archive: one per tensor, including the optimiser's
MAX_NAME = 200  # characters of a tensor's name

ZIP = b"PK\x03\x04"
PICKLE = b"\x80"
# "module name" of functions that a checkpoint may call. Not _codecs.encode, which torch allows: it imports a codec by name.
HARMLESS = re.compile(
    r"collections (OrderedDict|Counter)|torch\._utils _rebuild_(tensor_v2|parameter)|torch [A-Za-z0-9]+Storage"
    r"|torch (Size|device|float16|bfloat16|float32|float64)|(builtins|__builtin__) set"
)
UNNAMED = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX"}  # opcodes that call without a textual name

WRAPPINGS = ("state_dict", "model", "model_state_dict")
PREFIXES = ("module.", "_orig_mod.")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

SAVE_AGAIN = "If you trust the file, load it with torch and save its state dict alone, preferably as safetensors."


@dataclass(frozen=True, eq=False)
class Foreign:
    """Contents of a foreign checkpoint.

    Attributes:
        name: Name of the file, without its folder.
        digest: SHA-256 of the file.
        tensors: Tensors by name, without wrappers and prefixes, of any shape and dtype.
    """

    name: str
    digest: str
    tensors: dict[str, Tensor]

    __repr__ = short_repr.fields


def read(path: str | Path) -> Foreign:
    """Read the tensors of a ``.safetensors`` file, or of a ``.pt`` file in the zip format of torch 1.6 and later.

    Args:
        path: File, or a link to it, of at most 1 GiB.

    Raises:
        NotFoundError: missing file, or not a file.
        PolicyError: pickle that calls anything except constructors of tensors (``UNSAFE_FORMAT``).
        FormatError: neither format, damaged, too large, or not one state dict of tensors.
    """
    path = Path(path)
    data = atomic_files.read(_resolved(path), limit=MAX_FOREIGN)
    with _typed(path, data):
        loaded = load_safetensors(data) if path.suffix == SUFFIX else _load(data, path)
    name = path.name.encode(errors="replace").decode()
    return Foreign(name, sha256(data), _unprefixed(_tensors(_state(loaded, path), path), path))


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


def _resolved(path: Path) -> Path:
    """Resolve links, since a download cache links to files of other names."""
    with atomic_files.typed(path):
        real = Path(os.path.realpath(path))
        if not real.is_file():
            raise NotFoundError("no such file", code="NO_FILE", expected="a checkpoint", where=path)
    return real


@contextlib.contextmanager
def _typed(where: Path, data: bytes) -> Iterator[None]:
    """Convert any error of a reader of untrusted bytes to this package's; hide its warnings, meant for authors of files."""
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


def _load(data: bytes, where: Path) -> Any:
    if data[:4] != ZIP:
        if data[:1] == PICKLE:
            raise _unsafe("a bare pickle", where)
        placeholders.refuse_unreadable(data, where)
        raise FormatError("not a checkpoint", code="CHECKPOINT", expected=f"a {SUFFIX} file or a zip archive", where=where)
    _refuse_calls(_pickle_of(data, where), where)
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _pickle_of(data: bytes, where: Path) -> bytes:
    """Extract the pickle of an archive, refusing zip bombs: entries must be uncompressed and not overlap."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        rows = archive.infolist()
        if len(rows) > MAX_ENTRIES or len({row.filename for row in rows}) < len(rows):
            expected = f"at most {MAX_ENTRIES} entries, each of its own name"
            raise FormatError("not a checkpoint archive", code="CHECKPOINT", expected=expected, found=len(rows), where=where)
        total = sum(row.file_size for row in rows)
        if total > len(data) or any(row.compress_type != zipfile.ZIP_STORED for row in rows):
            raise FormatError(
                "archive unpacks to more than its size",
                code="TOO_LARGE",
                expected=f"uncompressed entries, {len(data)} bytes together",
                found=total,
                where=where,
            )
        pickles = [row for row in rows if row.filename.endswith("/data.pkl")]
        if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE:
            expected = f"one data.pkl of at most {MAX_PICKLE} bytes"
            raise FormatError("not a checkpoint archive", code="CHECKPOINT", expected=expected, where=where)
        return archive.read(pickles[0])


def _refuse_calls(program: bytes, where: Path) -> None:
    called = set()
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name == "GLOBAL" and not HARMLESS.fullmatch(str(argument)):
            called.add(str(argument).replace(" ", ".")[:MAX_NAME])
        elif opcode.name in UNNAMED:
            called.add(f"something by {opcode.name}")
    if called:
        raise _unsafe(", ".join(sorted(called)[:20]), where)


def _unsafe(found: str, where: Path) -> PolicyError:
    return PolicyError(
        "checkpoint would run code when loaded",
        code="UNSAFE_FORMAT",
        expected="only tensors, numbers and strings",
        found=found,
        where=where,
        remedy=SAVE_AGAIN,
    )


def _state(loaded: Any, where: Path) -> dict[Any, Any]:
    """Find the only state dict of a checkpoint: the checkpoint itself, or its entry of a usual name."""
    if not isinstance(loaded, dict):
        raise _no_state(f"a {type(loaded).__name__}", where)
    found = {key: loaded[key] for key in WRAPPINGS if isinstance(loaded.get(key), dict)}
    if any(isinstance(value, Tensor) and value.ndim for value in loaded.values()):
        found["the file itself"] = loaded
    if len(found) != 1:
        raise _no_state(" and ".join(found) or "none of them", where)
    return next(iter(found.values()))


def _no_state(found: str, where: Path) -> FormatError:
    return FormatError(
        "not exactly one state dict",
        code="STATE_DICT",
        expected=f"tensors by name, as the file itself or under one of {', '.join(WRAPPINGS)}",
        found=found,
        where=where,
        remedy=SAVE_AGAIN,
    )


def _tensors(state: dict[Any, Any], where: Path) -> dict[str, Tensor]:
    if len(state) > MAX_TENSORS:
        raise FormatError("too many tensors", code="ST_TENSORS", expected=MAX_TENSORS, found=len(state), where=where)
    names = [str(name)[:MAX_NAME] for name in state if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME]
    names += [str(name)[:MAX_NAME] for name, value in state.items() if not isinstance(value, Tensor)]
    if names:
        found = ", ".join(sorted(set(names)))
        raise FormatError("state dict with entries other than tensors", code="ST_TENSORS", found=found, where=where)
    return state


def _unprefixed(tensors: dict[str, Tensor], where: Path) -> dict[str, Tensor]:
    """Remove the prefix that a data-parallel or compiled module adds to every name."""
    for prefix in PREFIXES:
        prefixed = [name for name in tensors if name.startswith(prefix)]
        if prefixed and len(prefixed) < len(tensors):
            found = f"{len(prefixed)} of {len(tensors)}"
            raise FormatError(f"names with and without {prefix}", code="STATE_DICT", found=found, where=where)
        if prefixed:
            return _unprefixed({name.removeprefix(prefix): tensor for name, tensor in tensors.items()}, where)
    return tensors


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
