"""Merging of two registries' tables: every release, yank and attestation of both, and nothing older over something newer."""

from __future__ import annotations

from collections.abc import Mapping

from batteries.errors import ConflictError
from registry.catalog.release import AnyRelease, Attested

Table = Mapping[str, Mapping[str, AnyRelease]]
Attestations = Mapping[str, Mapping[str, Attested]]


def releases(mine: Table, theirs: Table) -> dict[str, dict[str, AnyRelease]]:
    """Return a table with every release and every yank of two.

    Raises:
        ConflictError: a version is in both, with other content (``VERSION_EXISTS``).
    """
    table = {path: dict(versions) for path, versions in mine.items()}
    for path, versions in theirs.items():
        known = table.setdefault(path, {})
        for version, release in versions.items():
            present = known.get(version)
            if present is not None:
                refuse_other(present, release, f"{path}@{version}")
            if present is None or (present.yanked is None and release.yanked is not None):
                known[version] = release
    return table


def attestations(mine: Attestations, theirs: Attestations) -> dict[str, dict[str, Attested]]:
    """Return the attestations of two: of one protocol about one cell that of the higher revision, or mine if they are equal."""
    table = {cell: dict(known) for cell, known in mine.items()}
    for cell, known in theirs.items():
        own = table.setdefault(cell, {})
        own.update({name: one for name, one in known.items() if name not in own or one.revision > own[name].revision})
    return table


def undecided(mine: Attestations, theirs: Attestations) -> list[tuple[str, str]]:
    """Return cell and protocol of the attestations that differ at the same revision, so that neither is known to be newer."""
    return [
        (cell, protocol)
        for cell, known in sorted(theirs.items())
        for protocol, one in sorted(known.items())
        if (own := mine.get(cell, {}).get(protocol)) is not None and own.revision == one.revision and not own.same_as(one)
    ]


def refuse_other(present: AnyRelease, release: AnyRelease, where: str) -> None:
    """Raise if two releases of one version differ in more than a yank.

    Raises:
        ConflictError: version already published with other content (``VERSION_EXISTS``).
    """
    if (present.manifest, present.blob) != (release.manifest, release.blob):
        raise ConflictError(
            "version already published with other content",
            code="VERSION_EXISTS",
            expected=f"manifest {present.manifest.sha256}",
            found=f"manifest {release.manifest.sha256}",
            where=where,
            remedy="A published version never changes: publish under another version.",
        )
