"""Torch's zip format read as data: a pickle is a program, and here each of its calls makes a record in place of a value.

No name of the pickle is imported and nothing it calls is run. What a checkpoint holds beside its weights may therefore be left
unread: numbers of NumPy and paths become :class:`Skipped`. Names outside the two lists below are refused beforehand.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

MAX_NAME = 200  # characters of a name in a message

# "module name" of what is read as data
READ = re.compile(
    r"collections (OrderedDict|Counter)|torch\._utils _rebuild_(tensor_v2|parameter)|torch [A-Za-z0-9]+Storage"
    r"|torch (Size|device|float16|bfloat16|float32|float64)|(builtins|__builtin__) set"
)
# "module name" of what is skipped. A codec is imported by its name: only the one that NumPy's bytes are written with is skipped
SKIPPED = re.compile(
    r"numpy\._?core\.multiarray (scalar|_reconstruct)|numpy (dtype|ndarray)"
    r"|_codecs encode|pathlib(\._local)? (Pure)?(Posix|Windows)?Path"
)
CODEC = "_codecs encode"
UNNAMED = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ", "NEWOBJ_EX"}  # calls without a textual name
MEMO = {"PUT", "BINPUT", "LONG_BINPUT"}  # whose argument sizes a table

DTYPES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}


class Record:
    """Base of what a call of the pickle makes; a state set on it afterwards is ignored."""

    def __setstate__(self, state: object) -> None:
        """Ignore the state."""


class Entries(dict[Any, Any], Record):
    """Ordered dictionary or counter."""


@dataclass(frozen=True, eq=False)
class Skipped(Record):
    """Value left unread, with the name of its type."""

    name: str


@dataclass(frozen=True, eq=False)
class Stored(Record):
    """Tensor of the archive, made on request.

    Attributes:
        shape: Size along each axis.
        make: Reader of the tensor.
    """

    shape: tuple[int, ...]
    make: Callable[[], Tensor]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)


@dataclass(frozen=True, eq=False)
class Name(Record):
    """Name in the pickle, which makes a record when it is called."""

    text: str

    def __call__(self, *given: Any) -> Any:
        """Return the record of a call."""
        match self.text:
            case "collections OrderedDict" | "collections Counter":
                return Entries(*given)
            case "torch._utils _rebuild_tensor_v2":
                return _stored(*given[:4])
            case "torch._utils _rebuild_parameter":
                return given[0]
            case text if text == CODEC and not (len(given) == 2 and given[1] == "latin1"):
                raise pickle.UnpicklingError(f"_codecs.encode with {str(given[1:])[:MAX_NAME]}")
        return Skipped(self.text.replace(" ", "."))


class Archive(pickle.Unpickler):
    """Reader of the pickle of an archive."""

    def __init__(self, program: bytes, entry: Callable[[str], bytes]) -> None:
        super().__init__(io.BytesIO(program))
        self._entry = entry

    def find_class(self, module: str, name: str) -> Name:
        """Return the name itself."""
        return Name(f"{module} {name}")

    def persistent_load(self, pid: Any) -> Any:
        """Return a reader of a storage."""
        _, kind, key, *_ = pid
        dtype = DTYPES.get(kind.text.removeprefix("torch ").removesuffix("Storage"))
        return partial(_numbers, self._entry, dtype, f"data/{key}")


def refused(program: bytes) -> list[str]:
    """List what a pickle calls or names outside the two lists, without running it."""
    found = set()
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name == "GLOBAL" and not (READ.fullmatch(str(argument)) or SKIPPED.fullmatch(str(argument))):
            found.add(str(argument).replace(" ", ".")[:MAX_NAME])
        elif opcode.name in UNNAMED:
            found.add(f"something by {opcode.name}")
        elif opcode.name in MEMO and int(str(argument)) > len(program):
            found.add(f"an entry {argument} of its memo")
    return sorted(found)


def load(program: bytes, archive: zipfile.ZipFile, folder: str) -> Any:
    """Read a pickle that :func:`refused` passes, with the tensors of its archive.

    Args:
        program: Bytes of the pickle.
        archive: Archive of the tensors.
        folder: Folder of the archive with the pickle.
    """
    names = set(archive.namelist())
    order = archive.read(f"{folder}/byteorder") if f"{folder}/byteorder" in names else b"little"
    if order != b"little":
        raise ValueError(f"byte order {order[:20]!r}")
    return Archive(program, lambda name: archive.read(f"{folder}/{name}")).load()


def _stored(numbers: Callable[[], Tensor], offset: int, size: Any, stride: Any) -> Stored:
    shape = tuple(int(side) for side in size)
    return Stored(shape, lambda: torch.as_strided(numbers(), shape, tuple(stride), offset))


def _numbers(entry: Callable[[str], bytes], dtype: torch.dtype | None, name: str) -> Tensor:
    if dtype is None:
        raise ValueError(f"unknown type of the numbers in {name}")
    data = bytearray(entry(name))
    return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype, device="cpu")


def skipped_in(value: Any) -> set[str]:
    """Collect the names of what was skipped in a dictionary and the dictionaries, lists and tuples in it, each visited once."""
    found: set[str] = set()
    seen: set[int] = set()
    rest = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, Skipped):
            found.add(one.name)
        elif isinstance(one, dict | list | tuple) and id(one) not in seen:
            seen.add(id(one))
            rest += list(one.values()) if isinstance(one, dict) else list(one)
    return found
