"""Cache of compiled kernels on disk: numba's cache interface over files verified by their digests.

The file of an entry is named by the digest of all that its code depends on: the source of the kernel's module and of every
module of these packages that it imports, the versions of Python, numba and LLVM, the processor, numba's settings, and the
signature. So an upgrade never runs old code. A file starts with a digest of its contents: a damaged or foreign one is replaced.

Entries are in ``NUMBA_CACHE_DIR`` if it is set, else in ``BATTERIES_HOME``, else, if neither is writable, in the folder for
temporary files. They are pickles: only a folder that no other user can write to is read. Without such a folder, and after any
error of numba or the disk, kernels are compiled in every process; nothing here raises.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-any-generics

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import pickle
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import compiler, serialize

from batteries.errors import BatteriesError
from batteries.io import atomic_files, filesystem
from batteries.io.access import Access, is_open_to_others
from batteries.io.canonical_json import sha256
from batteries.io.home import home

__all__ = ["KernelCache", "kernel"]

FOLDER = "kernels"
SUFFIX = ".code"
LARGEST = 2**26  # bytes of an entry; a kernel has about 100 KB
SEAL = 64  # digits of the digest that an entry starts with
OWN = ("batteries.", "composer.", "registry.")
CHOICES = ("BOUNDSCHECK", "DEBUGINFO_DEFAULT", "ENABLE_AVX", "LOOP_VECTORIZE", "OPT", "SLP_VECTORIZE")  # affect the code

_config: Any = numba.config  # its attributes are set from the environment


def kernel(function: Callable[..., None], **options: Any) -> Any:
    """Compile a function on its first call, releasing the GIL, with its code cached on disk.

    Args:
        function: Function of a module of these packages, in the subset of Python that numba supports.
        options: Options of ``numba.njit``.
    """
    made = numba.njit(nogil=True, **options)(function)
    made._cache = KernelCache(function)
    return made


class KernelCache:
    """Cache of the compiled code of one function, with the methods that numba calls.

    Args:
        function: Function of a module being imported, whose source is read now, before an upgrade can change it.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self._function = function
        self._name = re.sub(r"[^A-Za-z0-9.]", "", f"{function.__module__}.{function.__qualname__}")
        self._sources = _sources(function.__module__)

    @property
    def cache_path(self) -> str:
        """Preferred folder."""
        return str(next(_folders(), ""))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load the code for a signature, or None."""
        with contextlib.suppress(Exception):
            target_context.refresh()  # as numba's own cache does
            digest = self._digest(sig, target_context.codegen())
            for folder in _folders():
                with contextlib.suppress(Exception):
                    payload = _read(folder / self._entry(digest), digest)
                    return compiler.CompileResult._rebuild(target_context, *pickle.loads(payload))  # noqa: S301
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save the code for a signature, in the first writable folder."""
        with contextlib.suppress(Exception):
            if data.library.has_dynamic_globals or any(not lifted.can_cache for lifted in data.lifted):
                return
            payload, digest = serialize.dumps(data._reduce()), self._digest(sig, data.codegen)
            for folder in _folders():
                with contextlib.suppress(OSError, BatteriesError):
                    _write(folder / self._entry(digest), digest, payload)
                    return

    def enable(self) -> None:
        """Do nothing: the cache is always enabled."""

    def disable(self) -> None:
        """Do nothing: the cache cannot be disabled."""

    def flush(self) -> None:
        """Do nothing: a stale entry is never read."""

    def _entry(self, digest: str) -> str:
        return f"{self._name}-{digest[:32]}{SUFFIX}"

    def _digest(self, sig: Any, codegen: Any) -> str:
        """Return the digest of everything that the code for a signature depends on.

        Raises:
            ImportError: unreadable sources.
        """
        if self._sources is None:
            raise ImportError("no source to compute the kernel's digest from", name=self._function.__module__)
        constants = [cell.cell_contents for cell in self._function.__closure__ or ()]
        parts = (
            self._name,
            self._sources,
            sha256(serialize.dumps(constants)),
            (sys.implementation.cache_tag, numba.__version__, llvmlite.__version__),
            [(choice, getattr(_config, choice, None)) for choice in CHOICES],
            codegen.magic_tuple(),
            sig,
        )
        return sha256(repr(parts).encode())


@cache
def _sources(name: str) -> str | None:
    """Return the digest of the sources of a module and of all it imports of these packages; None if one cannot be read."""
    seen: dict[str, str | None] = {}
    wanted = [name]
    while wanted:
        module = wanted.pop()
        if module not in seen:
            seen[module] = source = _source(module)
            wanted += () if source is None or module == __name__ else _imported(source)  # imports no kernels
    return None if None in seen.values() else sha256(repr(sorted(seen.items())).encode())


@cache
def _source(name: str) -> str | None:
    with contextlib.suppress(ImportError, OSError, AttributeError, UnicodeDecodeError):
        source: str | None = importlib.util.find_spec(name).loader.get_source(name)  # type: ignore[union-attr]
        return source
    return None


def _imported(source: str) -> Iterator[str]:
    """Yield the modules of these packages that a source imports."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith(OWN):
                yield name if _is_module(name) else name.rpartition(".")[0]


def _is_module(name: str) -> bool:
    with contextlib.suppress(ModuleNotFoundError):  # the parent is not a package
        return importlib.util.find_spec(name) is not None
    return False


# ---- folders and files -----------------------------------------------------------------------------------------------


def _folders() -> Iterator[Path]:
    """Yield the folders that may hold entries, the preferred one first."""
    if _config.CACHE_DIR:
        yield Path(_config.CACHE_DIR) / f"batteries-{FOLDER}"
    with contextlib.suppress(BatteriesError):
        yield home() / FOLDER
    with contextlib.suppress(OSError):  # no folder for temporary files
        yield Path(tempfile.gettempdir()) / f"batteries-{FOLDER}-{os.geteuid()}"


def _read(path: Path, digest: str) -> bytes:
    """Read and verify the payload of an entry.

    Raises:
        OSError: missing entry, or one that another user could have written.
        ValueError: damaged or foreign file.
    """
    _check_private(path.parent.lstat(), path.parent)
    descriptor = filesystem.current.open(path)
    with os.fdopen(descriptor, "rb") as file:
        _check_private(filesystem.current.fstat(descriptor), path)
        data = file.read(LARGEST)
    payload = data[SEAL:]
    if data[:SEAL] != _seal(digest, payload):
        raise ValueError("digest mismatch of a cached kernel")
    return payload


def _write(path: Path, digest: str, payload: bytes) -> None:
    if os.path.lexists(path.parent):
        _check_private(path.parent.lstat(), path.parent)
    if path.is_symlink() or not path.is_file():  # `replace` refuses a link or a pipe; unlinking a folder fails
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    atomic_files.replace(path, _seal(digest, payload), payload, access=Access(top=path.parent.parent, private=True))


def _seal(digest: str, payload: bytes) -> bytes:
    return sha256(digest.encode() + payload).encode()


def _check_private(status: os.stat_result, path: Path) -> None:
    """Refuse a path that another user could have written, since a pickle can run code.

    Raises:
        OSError: neither a folder nor a file, or writable by other users.
    """
    if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
        raise OSError(f"neither a folder nor a file: {path}")
    if is_open_to_others(status):
        raise PermissionError(f"other users can write to {path}")
