"""A store in a folder."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from batteries.cell.manifest import MAX_BLOB
from batteries.errors import FormatError, NotFoundError, StoreWarning
from batteries.io import atomic_files
from batteries.io.access import Access
from batteries.io.atomic_files import Data
from batteries.io.missing_operations import Operation, noting
from registry.catalog import store_keys
from registry.catalog.index import MAX_INDEX, Index
from registry.catalog.kinds import kind_of_path
from registry.stores.store import INDEX
from registry.stores.write_rules import read_each, refuse_moved, refuse_other, refuse_read_only

LOCK = "index.lock"
LOCK_SECONDS = 30.0
ASIDE = "damaged"  # folder of damaged files, kept for diagnosis
GRACE = 3600.0  # seconds between the writing of a file and its listing, at most
UNPROMISED: dict[Operation, tuple[str, str]] = {  # code and consequence of a missing operation
    "link": ("NO_LINKS", "no hard links: if two processes publish one version at once, the later file may win"),
    "lock": ("NO_LOCKS", "no file locks: of two concurrent changes, one may be lost"),
    "sync": ("NO_SYNC", "no sync: a power failure may lose what was just published"),
}


def is_forgotten(path: Path) -> bool:
    """Return whether a file was written so long ago that its publish would have listed it."""
    with contextlib.suppress(OSError):
        return time.time() - path.lstat().st_mtime > GRACE
    return False


def _renew(path: Path) -> None:
    """Note that a publish is about to list a file that an earlier one left."""
    with contextlib.suppress(OSError):
        os.utime(path, follow_symlinks=False)


class DirectoryStore:
    """A store in a folder. Reading creates nothing; the first write creates the folder.

    Symbolic links in the path of the folder are resolved once. A read-only store follows links inside the folder, as in a
    download cache, since digests are compared anyway; a writable one refuses them.

    Args:
        path: Folder of the registry.
        writable: Whether to allow writes. A writable store removes temporary files of killed writers.
        name: Name that a user types in place of the path, if any.
        lock_seconds: Seconds that a change of the index waits for another one.

    >>> import registry
    >>> store = registry.DirectoryStore("cells")
    >>> published = registry.publish(registry.load("low/fresnel-64@1.0.0"), store)
    >>> registry.load("low/fresnel-64", registry="cells").version
    '1.0.0'
    """

    fixed_commit = None

    def __init__(
        self, path: str | Path, *, writable: bool = True, name: str | None = None, lock_seconds: float = LOCK_SECONDS
    ) -> None:
        with atomic_files.typed(Path(path)):
            self._named = Path(path).absolute()
            self.path = Path(os.path.realpath(self._named))
        self.writable = writable
        self._unpromised: set[Operation] = set()
        self._name = name
        self.lock_seconds = lock_seconds
        # only a folder with a registry's layout is swept: a mistyped path may hold other files
        if writable and atomic_files.is_folder(self.path / store_keys.BLOBS):
            atomic_files.sweep(self.path)

    def __repr__(self) -> str:
        return f"DirectoryStore({self.url!r}, writable={self.writable})"

    @property
    def access(self) -> Access:
        """Access of other users: files and folders are as open as the registry's folder."""
        return Access(self.path)

    @property
    def url(self) -> str:
        """Name of the store, or else its folder as given."""
        return str(self._named) if self._name is None else self._name

    def read_many(self, limits: Mapping[str, int]) -> dict[str, bytes]:
        """See :meth:`Store.read_many`."""
        return read_each(self, limits)

    def read(self, key: str, *, limit: int) -> bytes:
        """See :meth:`Store.read`."""
        return atomic_files.read(self.path_of(key), limit=limit, links=not self.writable)

    def keys(self, prefix: str = "") -> list[str]:
        """See :meth:`Store.keys`. Files whose path is not a key are ignored."""
        return sorted(key for folder in store_keys.FOLDERS for key in self._keys_below(folder) if key.startswith(prefix))

    def put(self, key: str, data: Data) -> None:
        """See :meth:`Store.put`. A damaged file, and a manifest that is not listed an hour after its writing, give way."""
        refuse_read_only(self)
        path = self.path_of(key)
        with self._saying_so():
            if atomic_files.create(path, data, access=self.access):
                return
            present = atomic_files.mapped(path, limit=MAX_BLOB)
            if present == data:
                _renew(path)
            elif self._gives_way(key, path, present, data):
                self.put_aside(key)
                atomic_files.create(path, data, access=self.access)
                present = atomic_files.mapped(path, limit=MAX_BLOB)
        refuse_other(key, present, data, self.url)

    def _gives_way(self, key: str, path: Path, present: Data, data: Data) -> bool:
        """Return whether a file was damaged, or left by a publish that ended before the index."""
        if store_keys.is_damaged(key, present):
            return not store_keys.is_damaged(key, data)
        return not self._lists(key) and is_forgotten(path)

    def _lists(self, key: str) -> bool:
        """Return whether the index lists a manifest; True for any other key, whose bytes its digest fixes."""
        path, _, file = key.rpartition("/")
        if kind_of_path(path) is None:
            return True
        data = self._index()
        index = Index() if data is None else Index.from_bytes(data, where=f"{INDEX} of {self.url}")
        return file.removesuffix(store_keys.JSON) in index.releases(path)

    def put_aside(self, key: str) -> bool:
        """Move the file of a key into ``damaged/``; return False if there is none.

        Raises:
            FormatError: symbolic link on the way, or in the place of that folder (``SYMLINK``).
        """
        return atomic_files.move_aside(self.path_of(key), self.path / ASIDE, access=self.access) is not None

    def read_index(self) -> bytes | None:
        """See :meth:`Store.read_index`. A writable store syncs it first, because its writer may have died before doing so."""
        index = self._index()
        if self.writable and index is not None:
            atomic_files.sync(self.path)
        return index

    def swap_index(self, expected: str | None, data: bytes) -> None:
        """See :meth:`Store.swap_index`."""
        refuse_read_only(self)
        with self._saying_so(), atomic_files.lock(self.path / LOCK, self.lock_seconds, self.access):
            refuse_moved(expected, self._index(), self.url)
            atomic_files.replace(self.path / INDEX, data, access=self.access)

    def _index(self) -> bytes | None:
        try:
            return atomic_files.read(self.path / INDEX, limit=MAX_INDEX, links=not self.writable)
        except NotFoundError:
            return None

    @contextlib.contextmanager
    def _saying_so(self) -> Iterator[None]:
        """Warn, once per operation, about guarantees that the file system does not support."""
        with noting() as lacking:
            yield
        for operation in sorted(lacking & UNPROMISED.keys() - self._unpromised):
            self._unpromised.add(operation)
            code, words = UNPROMISED[operation]
            remedy = "Publish from one process at a time, or to a registry on another file system."
            warnings.warn(StoreWarning(f"file system with {words}", code=code, where=self.url, remedy=remedy), stacklevel=4)

    def path_of(self, key: str) -> Path:
        """Return the path of a key.

        Raises:
            InputError: invalid key.
            FormatError: writable store, and a folder on the way is a symbolic link, which could lead out of it.
        """
        *within, name = store_keys.check(key).split("/")
        folder = self.path
        for part in within:
            folder = folder / part
            if self.writable and atomic_files.is_link(folder):
                remedy = "Replace it by a folder, or open the registry read-only (writable=False), which allows links."
                raise FormatError("symbolic link", code="SYMLINK", expected="a folder", where=folder, remedy=remedy)
        return folder / name

    def _keys_below(self, name: str) -> Iterator[str]:
        folder = self.path / name
        if self.writable and atomic_files.is_link(folder):
            return
        for path in atomic_files.walk(folder, depth=store_keys.DEPTH, links=not self.writable):
            key = path.relative_to(self.path).as_posix()
            if store_keys.is_key(key):
                yield key
