"""Losses of an index against an earlier one: versions, yanks and verdicts, which a registry only gains. Pure."""

from __future__ import annotations

from batteries.errors import IntegrityError
from registry.catalog.index import Index


def refuse_losses(before: Index, now: Index, where: str, remedy: str) -> None:
    """Raise if an index lacks what an earlier one had.

    Args:
        before: Earlier index.
        now: Index.
        where: Address of the registry.
        remedy: Way out, if the registry was rebuilt on purpose.

    Raises:
        IntegrityError: version changed or removed (``VERSION_MUTATED``), yank that is gone or has another reason
            (``YANK_REMOVED``), or verdict that is gone or older (``VERDICT_REMOVED``).
    """
    for what, code, losses in (
        ("published versions changed or removed", "VERSION_MUTATED", _changed(before, now)),
        ("yanks removed or changed", "YANK_REMOVED", _unyanked(before, now)),
        ("verdicts removed or older", "VERDICT_REMOVED", _unjudged(before, now)),
    ):
        if losses:
            raise IntegrityError(what, code=code, found=", ".join(losses[:5]), where=where, remedy=remedy)


def _changed(before: Index, now: Index) -> list[str]:
    """Return the versions that changed, other than by a yank, or were removed."""
    return [
        f"{path}@{version}"
        for path, version, release in before.everything()
        if (later := now.releases(path).get(version)) is None
        or (later.manifest, later.blob) != (release.manifest, release.blob)
    ]


def _unyanked(before: Index, now: Index) -> list[str]:
    """Return the yanked versions that are not yanked for the same reason any more, or were removed."""
    return [
        f"{path}@{version}"
        for path, version, release in before.everything()
        if release.yanked is not None and ((later := now.releases(path).get(version)) is None or later.yanked != release.yanked)
    ]


def _unjudged(before: Index, now: Index) -> list[str]:
    """Return cell and protocol of the attestations that were removed, or gave way to one of an earlier revision."""
    return [
        f"{protocol} of {cell[:12]}"
        for cell, known in sorted(before.attestations.items())
        for protocol, attested in sorted(known.items())
        if (later := now.attestations.get(cell, {}).get(protocol)) is None or later.revision < attested.revision
    ]
