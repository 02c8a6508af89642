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
from functools import cache, partial
from typing import Any

from batteries.packaging.pickles.pickled_tensors import DTYPES, Record, numbers_of, stored

MAX_NAME = 200  # characters of a name in a message
MAX_OPCODES = 250_000  # of a pickle; one of a trainer with optimiser has a fiftieth
MAX_BITS = 2048  # of a number: a larger one cannot be written out
# Values hashed as keys other than texts, each in every place that it has in tuples: Python computes a tuple's hash anew in each
# place, and numbers can be chosen so that their hashes collide, which takes the square of their number
MAX_HASHED = 8_000
MAX_VALUES = 1_000_000  # in a pickle's result, each counted in every place that it has: what writing it out would take

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


class Entries(dict[Any, Any], Record):
    """Ordered dictionary or counter."""


@dataclass(frozen=True, eq=False)
class Skipped(Record):
    """Value left unread, with the name of its type."""

    name: str


@dataclass(frozen=True, eq=False)
class Name(Record):
    """Name in the pickle, which makes a record when it is called.

    Attributes:
        text: Module and name.
        spend: Function that is told of the values that a call copies, and stops at too many.
    """

    text: str
    spend: Callable[[int], None]

    def __call__(self, *given: Any) -> Any:
        """Return the record of a call."""
        match self.text:
            case "collections OrderedDict" | "collections Counter":
                self.spend(sum(len(one) for one in given if hasattr(one, "__len__")))
                return Entries(*given)
            case "torch._utils _rebuild_tensor_v2":
                return stored(*given)
            case "torch._utils _rebuild_parameter":
                return given[0]
            case text if text == CODEC and not (len(given) == 2 and given[1] == "latin1"):
                raise pickle.UnpicklingError(f"_codecs.encode with {', '.join(type(one).__name__ for one in given)}")
        return Skipped(self.text.replace(" ", "."))


class Archive(pickle.Unpickler):
    """Reader of the pickle of an archive."""

    def __init__(self, program: bytes, entry: Callable[[str], bytes]) -> None:
        super().__init__(io.BytesIO(program))
        self._entry = cache(lambda name: bytearray(entry(name)))  # tensors of one storage share its bytes
        self._copied = 0

    def _spend(self, values: int) -> None:
        self._copied += values
        if self._copied > MAX_OPCODES:
            raise ValueError(f"more than {MAX_OPCODES} values copied")

    def find_class(self, module: str, name: str) -> Name:
        """Return the name itself."""
        return Name(f"{module} {name}", self._spend)

    def persistent_load(self, pid: Any) -> Any:
        """Return a reader of a storage."""
        _, kind, key, *_ = pid
        dtype = DTYPES.get(kind.text.removeprefix("torch ").removesuffix("Storage"))
        return partial(numbers_of, self._entry, dtype, f"data/{key}")


def refused(program: bytes) -> list[str]:
    """List what a pickle calls or names outside the two lists, without running it.

    Raises:
        ValueError: no pickle, or one with too many opcodes, too large a number, or too much to hash.
    """
    found, places = set(), _Places()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(program)):
        if count == MAX_OPCODES:
            raise ValueError(f"a pickle of more than {MAX_OPCODES} opcodes")
        if isinstance(argument, int) and argument.bit_length() > MAX_BITS:
            raise ValueError(f"a number of {argument.bit_length()} bits")
        places.take(opcode, argument)
        if opcode.name == "GLOBAL" and not (READ.fullmatch(str(argument)) or SKIPPED.fullmatch(str(argument))):
            found.add(str(argument).replace(" ", ".")[:MAX_NAME])
        elif opcode.name in UNNAMED:
            found.add(f"something by {opcode.name}")
        elif opcode.name in MEMO and int(str(argument)) > len(program):
            found.add(f"an entry {argument} of its memo")
    return sorted(found)


class _Places:
    """Number of values in the tuples on a pickle's stack and in its memo, followed without making any value; 0 for a text."""

    def __init__(self) -> None:
        self._stack: list[int] = []
        self._marks: list[int] = []
        self._memo: dict[int, int] = {}
        self._hashed = 0

    def take(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Follow an opcode.

        Raises:
            ValueError: too much to hash.
        """
        name, before = opcode.name, opcode.stack_before
        if name == "MARK":
            self._marks.append(len(self._stack))
            return
        if name in MEMO or name == "MEMOIZE":
            self._memo[len(self._memo) if argument is None else int(argument)] = self._stack[-1] if self._stack else 1
            return
        start, below = len(self._stack), len(before)
        if pickletools.markobject in before:
            start, below = self._marks.pop() if self._marks else 0, before.index(pickletools.markobject)
        first = max(0, start - below)
        taken, above = self._stack[first:], self._stack[start:] if start < len(self._stack) else []
        del self._stack[first:]
        self._hashed += sum(_keys(name, taken, above))
        if self._hashed > MAX_HASHED:
            raise ValueError(f"keys of more than {MAX_HASHED} values that are no texts")
        self._stack += [self._made(name, argument, taken)] * len(opcode.stack_after)

    def _made(self, name: str, argument: Any, taken: list[int]) -> int:
        if "TUPLE" in name:
            return 1 + min(MAX_HASHED, sum(max(1, one) for one in taken))
        if name == "DUP":
            return max(taken, default=1)
        if name in ("GET", "BINGET", "LONG_BINGET"):
            return self._memo.get(int(argument), 1)
        return 0 if any(word in name for word in ("UNICODE", "STRING", "BYTES")) else 1


def _keys(name: str, taken: list[int], above: list[int]) -> list[int]:
    """Return those of the values that an opcode takes from the stack which it hashes."""
    match name:
        case "SETITEM":
            return taken[-2:-1]
        case "SETITEMS" | "DICT":
            return above[::2]
        case "ADDITEMS" | "FROZENSET":
            return above
    return []


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
    loaded = Archive(program, lambda name: archive.read(f"{folder}/{name}")).load()
    if _places(loaded) > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES} values, each in every place that it has")
    return loaded


def _places(loaded: Any) -> int:
    """Count the values in dictionaries, lists, tuples and sets, each in every place; more than the largest for a cycle."""
    counts: dict[int, int] = {}
    open_, rest = set(), [loaded]
    while rest:
        one = rest[-1]
        parts = _parts(one)
        if id(one) in counts:
            rest.pop()
        elif id(one) in open_:  # all parts are counted
            counts[id(one)] = min(MAX_VALUES + 1, 1 + sum(counts.get(id(part), 1) for part in parts))
            open_.discard(id(rest.pop()))
        else:
            open_.add(id(one))
            nested = [part for part in parts if _parts(part) and id(part) not in counts]
            if any(id(part) in open_ for part in nested):
                return MAX_VALUES + 1
            rest += nested
    return counts[id(loaded)]


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return list(value) if isinstance(value, list | tuple | set | frozenset) else []


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
