"""Checkpoints that somebody else saved: tensors by name, and nothing run.

A ``.pt`` file is a zip archive around a pickle, and a pickle is a program. Two readers stand before it. Ours goes through the
pickle without running it, and refuses every name that is not one of the few that make tensors; torch's own weights-only
reader, which imports nothing by name, then builds them. A ``.safetensors`` file holds nothing but tensors.
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

from batteries.cell.cell import SUFFIX
from batteries.cell.weights_file import MAX_TENSORS
from batteries.errors import BatteriesError, FormatError, NotFoundError, PolicyError
from batteries.io import atomic_files, placeholders, short_repr
from batteries.io.canonical_json import sha256

MAX_FOREIGN = 2**30  # the weights of the largest cell in float64, with two moments of an optimiser, and as much again
MAX_PICKLE = 4 * 2**20  # the largest seen is a hundred times smaller
MAX_ENTRIES = 4096  # of the archive: one per tensor, the optimiser's among them
MAX_NAME = 200  # characters of a tensor's name

ZIP = b"PK\x03\x04"
PICKLE = b"\x80"
# "module name" of what a checkpoint may call. Not _codecs.encode, which torch allows: it imports a codec by its name.
HARMLESS = re.compile(
    r"collections (OrderedDict|Counter)|torch\._utils _rebuild_(tensor_v2|parameter)|torch [A-Za-z0-9]+Storage"
    r"|torch (Size|device|float16|bfloat16|float32|float64)|(builtins|__builtin__) set"
)
UNNAMED = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX"}  # opcodes that call what no text names

WRAPPINGS = ("state_dict", "model", "model_state_dict")
PREFIXES = ("module.", "_orig_mod.")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

SAVE_AGAIN = "Where you trust the file, load it with torch and save its state dict alone, best as safetensors."


@dataclass(frozen=True, eq=False)
class Foreign:
    """What a checkpoint holds.

    Attributes:
        name: Of the file, without its folder.
        digest: SHA-256 of the file.
        tensors: By name, wrappings and prefixes taken off; any shape and type.
    """

    name: str
    digest: str
    tensors: dict[str, Tensor]

    __repr__ = short_repr.fields


def read(path: str | Path) -> Foreign:
    """Tensors of a ``.safetensors`` file, or of a ``.pt`` file in the zip format of torch 1.6 and later.

    Args:
        path: The file, or a link to it. At most 1 GiB.

    Raises:
        NotFoundError: no such file, or not a file.
        PolicyError: a pickle that calls anything but what makes tensors (``UNSAFE_FORMAT``).
        FormatError: neither format, damaged, too large, or not one state dict of tensors.
    """
    path = Path(path)
    data = atomic_files.read(_resolved(path), limit=MAX_FOREIGN)
    with _typed(path, data):
        loaded = load_safetensors(data) if path.suffix == SUFFIX else _load(data, path)
    name = path.name.encode(errors="replace").decode()
    return Foreign(name, sha256(data), _unprefixed(_tensors(_state(loaded, path), path), path))


def floats(tensors: Mapping[str, Tensor], where: object) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Tensors as float32 arrays, and the names of the other types that were converted.

    Raises:
        FormatError: a type that is not a floating-point one of 16, 32 or 64 bits; all such tensors are listed.
    """
    wrong = [f"{name} is {_type(tensor)}" for name, tensor in sorted(tensors.items()) if tensor.dtype not in FLOATS]
    if wrong:
        expected = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOATS)
        raise FormatError("tensors of another type", code="ST_DTYPE", expected=expected, found="; ".join(wrong), where=where)
    converted = {_type(tensor) for tensor in tensors.values()} - {"float32"}
    return {name: tensor.detach().float().numpy() for name, tensor in tensors.items()}, tuple(sorted(converted))


def _resolved(path: Path) -> Path:
    """File itself: a download cache has links to files of other names."""
    with atomic_files.typed(path):
        real = Path(os.path.realpath(path))
        if not real.is_file():
            raise NotFoundError("no such file", code="NO_FILE", expected="a checkpoint", where=path)
    return real


@contextlib.contextmanager
def _typed(where: Path, data: bytes) -> Iterator[None]:
    """Whatever a reader of hostile bytes raises, as one of our errors; its warnings are for people who write torch files."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except BatteriesError:
        raise
    except pickle.UnpicklingError as error:
        raise _unsafe(str(error).split("\n")[0][:500], where) from error
    except Exception as error:  # the readers promise nothing about what they raise
        if data[:4] != ZIP:
            placeholders.refuse_unreadable(data, where)
        found = f"{type(error).__name__}: {error}"[:500]
        raise FormatError("a checkpoint that cannot be read", code="CHECKPOINT", found=found, where=where) from error


def _load(data: bytes, where: Path) -> Any:
    if data[:4] != ZIP:
        if data[:1] == PICKLE:
            raise _unsafe("a bare pickle", where)
        placeholders.refuse_unreadable(data, where)
        raise FormatError("not a checkpoint", code="CHECKPOINT", expected=f"a {SUFFIX} file or a zip archive", where=where)
    _refuse_calls(_pickle_of(data, where), where)
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _pickle_of(data: bytes, where: Path) -> bytes:
    """Pickle of an archive whose entries are stored as they are, no two over the same bytes: no bomb."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        rows = archive.infolist()
        if len(rows) > MAX_ENTRIES or len({row.filename for row in rows}) < len(rows):
            expected = f"at most {MAX_ENTRIES} entries, each of its own name"
            raise FormatError("not a checkpoint's archive", code="CHECKPOINT", expected=expected, found=len(rows), where=where)
        total = sum(row.file_size for row in rows)
        if total > len(data) or any(row.compress_type != zipfile.ZIP_STORED for row in rows):
            raise FormatError(
                "an archive that unpacks to more than it is",
                code="TOO_LARGE",
                expected=f"uncompressed entries, {len(data)} bytes together",
                found=total,
                where=where,
            )
        pickles = [row for row in rows if row.filename.endswith("/data.pkl")]
        if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE:
            expected = f"one data.pkl of at most {MAX_PICKLE} bytes"
            raise FormatError("not a checkpoint's archive", code="CHECKPOINT", expected=expected, where=where)
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
        "a checkpoint that needs code to be read",
        code="UNSAFE_FORMAT",
        expected="tensors, numbers and texts alone",
        found=found,
        where=where,
        remedy=SAVE_AGAIN,
    )


def _state(loaded: Any, where: Path) -> dict[Any, Any]:
    """The one state dict of a checkpoint: the checkpoint itself, or what it has under a usual name."""
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
        "not one state dict",
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
        raise FormatError("a state dict with something else in it", code="ST_TENSORS", found=found, where=where)
    return state


def _unprefixed(tensors: dict[str, Tensor], where: Path) -> dict[str, Tensor]:
    """Names without what a data-parallel or a compiled module puts before every one of them."""
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
