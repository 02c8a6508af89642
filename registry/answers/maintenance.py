"""Answers of lock, diff, mirror, yank, gc and fsck under ``--json``; their schemas are exported to ``docs/schema``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from batteries.cell.manifest import Count
from batteries.errors import BatteriesError
from batteries.io.canonical_json import Document
from batteries.text import unicode
from registry.answers.answer import Answer, Fault
from registry.catalog.index import TABLES
from registry.catalog.kinds import with_tables
from registry.stores.cache_cleanup import Collected
from registry.transfer.lockfile import ChangedCell, Lock, LockedCell, LockedIndex, locked_rows
from registry.transfer.mirror import Mirrored
from registry.transfer.remarks import Yanked


@with_tables(lambda form: (locked_rows(form), ...))
class LockAnswer(Answer):
    """Answer of ``batteries lock``: the path of the lock file, and its contents."""

    lock: str
    cells: tuple[LockedCell, ...]
    indexes: tuple[LockedIndex, ...]

    @classmethod
    def of(cls, lock: Lock, path: Path) -> LockAnswer:
        """Return the answer for a lock that was written."""
        tables = {table: lock.table(table) for table in TABLES}
        return cls(lock=unicode(path), indexes=lock.indexes, **tables)


class DiffAnswer(Answer):
    """Answer of ``batteries diff``: the artifacts that differ."""

    changes: tuple[ChangedCell, ...]

    @classmethod
    def of(cls, changes: Sequence[ChangedCell]) -> DiffAnswer:
        """Return the answer for the changes between two locks."""
        return cls(changes=tuple(changes))


class FaultyFile(Answer):
    """A missing or damaged file, its error, and whether it was repaired."""

    name: str
    repaired: bool
    error: Fault


class FsckAnswer(Answer):
    """Answer of ``batteries fsck``: whether all files checked are intact or repaired, and files not listed in the index."""

    ok: bool
    checked: Count
    faults: tuple[FaultyFile, ...]
    orphans: tuple[str, ...]

    @classmethod
    def of(
        cls, faults: Mapping[str, BatteriesError], repaired: Sequence[str], orphans: Sequence[str], checked: int
    ) -> FsckAnswer:
        """Return the answer for checked files."""
        rows = [FaultyFile(name=name, repaired=name in repaired, error=Fault.of(error)) for name, error in faults.items()]
        return cls(ok=all(row.repaired for row in rows), checked=checked, faults=tuple(rows), orphans=tuple(orphans))


MAINTENANCE: dict[str, type[Document]] = {
    "diff": DiffAnswer,
    "fsck": FsckAnswer,
    "gc": Collected,
    "lock": LockAnswer,
    "mirror": Mirrored,
    "yank": Yanked,
}
