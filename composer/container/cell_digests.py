"""Lock of a container: the version and digests of each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batteries.errors import IntegrityError

SHOWN = 6  # cells in a message

CellDigests = Mapping[str, Mapping[str, str]]  # by cell: version, sha256 of its file, and the digest of its tensors


def check_lock(lock: CellDigests, saved: object) -> None:
    """Compare a saved lock with a container's own.

    Raises:
        IntegrityError: a missing lock, or a lock of other cells (``LOCK_MISMATCH``).
    """
    if not isinstance(saved, dict) or not all(isinstance(row, dict) and "sha256" in row for row in saved.values()):
        raise IntegrityError("state without a lock", code="LOCK_MISMATCH", expected="digests by cell", found=repr(saved)[:80])
    other = [name for name in dict.fromkeys((*lock, *saved)) if saved.get(name) != lock.get(name)]
    if other:
        raise IntegrityError(
            "state of other cells",
            code="LOCK_MISMATCH",
            expected=_named_digests(lock, other),
            found=_named_digests(saved, other),
            remedy="Compose the container from the cells that the state names, at these digests.",
        )


def _named_digests(lock: CellDigests, names: Sequence[str]) -> str:
    shown = [f"{name} {lock[name]['sha256'][:12]}" if name in lock else f"no {name}" for name in names[:SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
