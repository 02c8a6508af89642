"""Artifacts found by name: patterns, conditions, and the nearest names of one that is not there. No torch here."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from batteries.cell.artifact_kinds import ArtifactKind
from batteries.errors import BatteriesError, InputError, NotFoundError
from batteries.text import SHOWN, did_you_mean, listed
from registry.catalog.kinds import CELL
from registry.catalog.reference import NamePattern, Reference, is_pattern
from registry.stores import settings
from registry.stores.settings import Mode
from registry.stores.snapshot import Located, Snapshot, open_snapshot, snapshots_of
from registry.stores.store import Store
from registry.transfer.lockfile import LockedCell
from registry.transfer.query import Query, row_of

Named = Reference | NamePattern | Located | LockedCell


def find(
    pattern: str = "*", where: str | None = None, *, registry: str | Path | Store | None = None, mode: Mode | None = None
) -> list[Located]:
    """Find artifacts by name and by what the index says of them, as ``batteries list`` does; nothing is fetched.

    Args:
        pattern: Part of a name, or a pattern such as ``low/*``; ``model/*`` and ``maps/*`` find artifacts of another kind.
        where: Condition on cells, such as ``D == 16 and viable``.
        registry: Folder, ``hf://owner/repo[@revision]`` or store; left out, the registry in force.
        mode: Whether the network may and must be asked, as for :func:`registry.pull`.

    Returns:
        The rows of ``batteries list``, sorted by name: the newest version of each artifact, with its ``reference``, its
        ``release`` (digests, summary) and its ``attestations``. :func:`registry.pull` takes them; none is an empty list.

    Raises:
        InputError: not a condition (``WHERE``), or a condition on another kind than the cell (``USAGE``).
        BatteriesError: as :func:`registry.open_store`.

    >>> import registry
    >>> found = registry.find("mid/*", where="D == 8 and viable", registry="embedded")
    >>> [one.reference.path for one in found]
    ['mid/fresnel-64', 'mid/johanna-64', 'mid/johanna-p-64']
    """
    query = None if where is None else Query.parse(where)
    return rows(open_snapshot(registry, mode=mode), pattern, NamePattern(None, pattern).kind, query)


def rows(
    snapshot: Snapshot, pattern: str, kind: ArtifactKind, query: Query | None = None, *, every: bool = False
) -> list[Located]:
    """List what a registry has of a kind, sorted by name.

    Args:
        snapshot: Registry and index.
        pattern: Pattern of ``band/name``; without a wild card, any part of it.
        kind: Kind of artifact.
        query: Condition on cells.
        every: Whether all versions are listed. Else the newest; the last, where all are prereleases or yanked.

    Raises:
        InputError: a condition on another kind than the cell (``USAGE``).
    """
    if kind is not CELL and query is not None:
        raise InputError("condition on another kind than cells", code="USAGE", remedy="Leave out the condition.")
    index, found = snapshot.index, []
    for path in sorted(path for path in index.table(kind.plural) if fnmatchcase(path, pattern) or pattern in path):
        versions = index.versions(path)
        shown = versions if every else [index.newest(path) or versions[-1]]
        found += [snapshot.find(Reference.parse(f"{path}@{version}")) for version in shown]
    return found if query is None else [located for located in found if query.matches(row_of(located))]


def named(given: Iterable[Any], registry: str | Path | Store | None = None, mode: Mode | None = None) -> list[Any]:
    """Read references, patterns and aliases; what was read, found or locked before stays as it is.

    Args:
        given: Texts and such objects.
        registry: Registry whose names are near to one without its band.
        mode: Whether the network may and must be asked, as for :func:`registry.pull`.

    Raises:
        BatteriesError: as :func:`registry.stores.settings.expand`; a name without its band is told with its bands.
    """
    return [one if isinstance(one, Named) else _named(one, registry, mode) for one in given]


def located(
    given: Sequence[Reference | NamePattern | Located],
    registry: str | Path | Store | None = None,
    *,
    mode: Mode | None = None,
) -> list[list[Located]]:
    """Find every reference and all that a pattern matches, each in the registry that it names; every index is read once.

    A pattern matches names at their newest version, or at the newest in its range; prereleases and yanked versions only where
    the pattern says so of a prerelease. With a pattern among them, artifacts that are named twice are found once.

    Raises:
        NotFoundError: no such artifact, version or registry; a pattern without a match, with the nearest names.
    """
    opened = snapshots_of([one for one in given if not isinstance(one, Located)], registry, mode=mode)
    found = [_found(one, opened) for one in given]
    return _once(found) if any(isinstance(one, NamePattern) for one in given) else found


def references_of(texts: Iterable[str], registry: str | Path | Store | None = None) -> list[Reference]:
    """Read references and aliases, with the exact references of all matches in the place of a pattern.

    Raises:
        BatteriesError: as :func:`named` and :func:`located`.
    """
    parsed: list[Reference | NamePattern] = named(texts, registry)
    if not any(isinstance(one, NamePattern) for one in parsed):
        return [one for one in parsed if isinstance(one, Reference)]
    return [one.reference for some in located(parsed, registry) for one in some]


def _found(one: Reference | NamePattern | Located, opened: dict[str | None, Snapshot]) -> list[Located]:
    if isinstance(one, Located):
        return [one]
    snapshot = opened[one.registry]
    return [snapshot.find(one)] if isinstance(one, Reference) else _matching(snapshot, one)


def _matching(snapshot: Snapshot, pattern: NamePattern) -> list[Located]:
    """List all that a pattern means in a registry, sorted by name."""
    table = snapshot.index.table(pattern.kind.plural)
    paths = [path for path in sorted(table) if pattern.matches(path)]
    chosen = ((path, _version(snapshot, path, pattern)) for path in paths)
    found = [snapshot.find(_exact(pattern, path, version)) for path, version in chosen if version is not None]
    if not found:
        raise _no_match(pattern, paths, list(table))
    return found


def _exact(pattern: NamePattern, path: str, version: str) -> Reference:
    band, name = path.split("/")
    return Reference(pattern.registry, band, name, version)


def _version(snapshot: Snapshot, path: str, pattern: NamePattern) -> str | None:
    if pattern.version is None:
        return snapshot.index.newest(path, pattern.range)
    release = snapshot.index.releases(path).get(pattern.version)
    return None if release is None or release.yanked is not None else pattern.version


def _once(found: list[list[Located]]) -> list[list[Located]]:
    """Leave out what stands further ahead already."""
    seen: set[tuple[str, str, str]] = set()
    kept: list[list[Located]] = []
    for some in found:
        kept.append([])
        for one in some:
            key = one.snapshot.store.url, one.reference.path, one.version
            if key not in seen:
                kept[-1].append(one)
                seen.add(key)
    return kept


def _no_match(pattern: NamePattern, paths: list[str], known: list[str]) -> NotFoundError:
    kind = pattern.kind
    code = f"NO_{kind.name.upper()}"
    if paths:
        remedy = f"Names that match: {listed(paths)}. Patterns choose no prereleases and no yanked versions: name one exactly."
    elif "/" not in pattern.path and any(fnmatchcase(path, f"*/{pattern.path}") for path in known):
        remedy = f"A pattern starts with the band. Did you mean */{pattern.path}?"
    else:
        how = "batteries list" if kind is CELL else f"batteries list --{kind.plural}"
        remedy = did_you_mean(pattern.path, known, f"`{how}` shows the {kind.plural} there are.")
    return NotFoundError(f"no {kind.name} matches the pattern", code=code, found=pattern, remedy=remedy)


def _named(text: str, registry: str | Path | Store | None, mode: Mode | None) -> Reference | NamePattern:
    if is_pattern(text):
        return NamePattern.parse(text)
    try:
        return settings.expand(text)
    except NotFoundError as error:
        near = _near(text, error, registry, mode) if error.code == "NO_ALIAS" else []
        if not near:
            raise
        remedy = f"Did you mean {_listed(near)}?"
    raise NotFoundError("unknown name", code="NO_ALIAS", expected="band/name", found=text, remedy=remedy)


def _near(text: str, error: NotFoundError, registry: str | Path | Store | None, mode: Mode | None) -> list[str]:
    """Find paths whose name is a text, or near to it unless an alias is; none where the registry cannot be read."""
    paths: dict[str, list[str]] = {}
    with contextlib.suppress(BatteriesError):
        for path in dict.fromkeys(path for path, _, _ in open_snapshot(registry, mode=mode).index.everything()):
            paths.setdefault(path.partition("/")[2], []).append(path)
    if text in paths or (error.remedy or "").startswith("Did you mean"):
        return paths.get(text, [])
    return [path for name in difflib.get_close_matches(text, paths, n=3) for path in paths[name]]


def _listed(names: Sequence[str]) -> str:
    """List the first of some names as alternatives.

    >>> _listed(["low/a", "mid/a", "high/a"])
    'low/a, mid/a or high/a'
    """
    shown = names[:SHOWN]
    return " or ".join([*([", ".join(shown[:-1])] if shown[:-1] else []), shown[-1]])
