"""What lock, diff, mirror, yank, gc and fsck answer under ``--json``; their schemas are in ``docs/schema`` as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from batteries.cell.manifest import Count, Text
from batteries.errors import BatteriesError
from registry.answers.answer import Answer, Fault, unicode
from registry.catalog.index import TABLES
from registry.catalog.kinds import with_tables
from registry.stores.cache_cleanup import Collected
from registry.transfer.lockfile import Change, Lock, LockedCell, LockedIndex, locked_rows
from registry.transfer.mirror import Mirrored
from registry.transfer.publish import Yanked


@with_tables(lambda form: (locked_rows(form), ...))
class LockAnswer(Answer):
    """Answer of ``batteries lock``: the file, and what it holds."""

    lock: str
    cells: tuple[LockedCell, ...]
    indexes: tuple[LockedIndex, ...]

    @classmethod
    def of(cls, lock: Lock, path: Path) -> LockAnswer:
        """A lock that was written."""
        tables = {table: lock.table(table) for table in TABLES}
        return cls(lock=unicode(path), indexes=lock.indexes, **tables)


class ChangedCell(Answer):
    """An artifact that differs: its versions and digests in either lock."""

    path: str
    kind: Literal["added", "removed", "changed"]
    before: tuple[str, ...]
    after: tuple[str, ...]


class DiffAnswer(Answer):
    """Answer of ``batteries diff``: what differs."""

    changes: tuple[ChangedCell, ...]

    @classmethod
    def of(cls, changes: Sequence[Change]) -> DiffAnswer:
        """What differs between two locks."""
        rows = (ChangedCell(path=one.path, kind=one.kind, before=one.before, after=one.after) for one in changes)
        return cls(changes=tuple(rows))


@with_tables(lambda form: (Count, ...))
class MirrorAnswer(Answer):
    """Answer of ``batteries mirror``: versions and attestations of the source, and how many versions were copied."""

    source: str
    target: str
    cells: Count
    copied: Count
    attestations: Count
    number: Count

    @classmethod
    def of(cls, mirrored: Mirrored) -> MirrorAnswer:
        """What a mirror came to."""
        facts = {**vars(mirrored), "source": unicode(mirrored.source), "target": unicode(mirrored.target)}
        return cls(**facts.pop("versions"), **facts)


class YankAnswer(Answer):
    """Answer of ``batteries yank``; ``new`` is false where it was yanked before, for the same reason."""

    reference: str
    reason: Text
    number: Count
    new: bool

    @classmethod
    def of(cls, yanked: Yanked, reason: str) -> YankAnswer:
        """What a yank came to."""
        return cls(reference=str(yanked.reference), reason=reason, number=yanked.number, new=yanked.new)


class CollectAnswer(Answer):
    """Answer of ``batteries gc``: files that went with their bytes, and files that stayed with theirs."""

    removed: Count
    freed: Count
    kept: Count
    size: Count

    @classmethod
    def of(cls, collected: Collected) -> CollectAnswer:
        """What a collection came to."""
        return cls(**vars(collected))


class FaultyFile(Answer):
    """A file that was not right: whether it is now, and what was wrong."""

    name: str
    repaired: bool
    error: Fault


class FsckAnswer(Answer):
    """Answer of ``batteries fsck``: whether all that is promised is right now, and files that nothing promises."""

    ok: bool
    checked: Count
    faults: tuple[FaultyFile, ...]
    orphans: tuple[str, ...]

    @classmethod
    def of(
        cls, faults: Mapping[str, BatteriesError], repaired: Sequence[str], orphans: Sequence[str], checked: int
    ) -> FsckAnswer:
        """What came of checking files."""
        rows = [FaultyFile(name=name, repaired=name in repaired, error=Fault.of(error)) for name, error in faults.items()]
        return cls(ok=all(row.repaired for row in rows), checked=checked, faults=tuple(rows), orphans=tuple(orphans))


CUSTODY: dict[str, type[Answer]] = {
    "diff": DiffAnswer,
    "fsck": FsckAnswer,
    "gc": CollectAnswer,
    "lock": LockAnswer,
    "mirror": MirrorAnswer,
    "yank": YankAnswer,
}
