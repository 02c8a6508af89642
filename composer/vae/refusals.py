"""Refusals of what no battery VAE can be made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from batteries.cell.spec import CellSpec
from batteries.errors import ConflictError, InputError, IntegrityError
from batteries.text import listed
from composer.container.cell_digests import CellDigests

MAX_ARRAYS = 4096  # of a sector: as many as a file may have
MAX_NUMBERS = 2**25  # of the arrays of all sectors: as many as a cell may have


def check_shape(specs: Mapping[str, CellSpec], bottleneck: int, arrays: int) -> None:
    """Refuse numbers of sectors, of a code and of arrays that no model has.

    Raises:
        InputError: fewer than two sectors (``ONE_SECTOR``), a width of codes that does not fit (``WIDTH``), or no arrays
            (``ARRAYS``).
    """
    if len(specs) < 2:
        remedy = "Pass two cells or more; fine-tune a single one with batteries train --start."
        raise InputError("too few sectors", code="ONE_SECTOR", expected="at least 2", found=len(specs), remedy=remedy)
    most = min(spec.V * spec.D for spec in specs.values())
    if not (_is_count(bottleneck) and bottleneck <= most):
        expected = f"from 1 to {most}, the numbers of the smallest matrix"
        raise InputError("width of codes that does not fit", code="WIDTH", expected=expected, found=repr(bottleneck)[:40])
    most = min(MAX_ARRAYS, MAX_NUMBERS // sum(spec.V * spec.D for spec in specs.values()))
    if not (_is_count(arrays) and arrays <= most):
        raise InputError("no number of arrays", code="ARRAYS", expected=f"from 1 to {most}", found=repr(arrays)[:40])


def check_parents(ends: Mapping[str, str]) -> None:
    """Refuse the same weights under two names: such sectors would learn the same.

    Raises:
        ConflictError: weights that occur twice (``TWICE``).
    """
    by_digest: dict[str, list[str]] = {}
    for name, digest in ends.items():
        by_digest.setdefault(digest, []).append(name)
    twice = [" = ".join(names) for names in by_digest.values() if len(names) > 1]
    if twice:
        raise ConflictError("duplicate cell", code="TWICE", found=listed(twice), remedy="Leave one of them out.")


def checked_arrays(given: object, specs: Mapping[str, CellSpec]) -> dict[str, Tensor]:
    """Return arrays by sector if they are of the sectors' V and D, of one number K, and finite.

    Raises:
        InputError: other arrays (``ARRAYS``).
    """
    if not isinstance(given, Mapping) or given.keys() != specs.keys():
        found = repr(given)[:80] if not isinstance(given, Mapping) else listed(sorted(map(str, given)))
        raise InputError("arrays not of the sectors", code="ARRAYS", expected=listed(list(specs)), found=found)
    counts = {len(array) if isinstance(array, Tensor) and array.ndim else 0 for array in given.values()}
    K = counts.pop() if len(counts) == 1 else 0
    for name, spec in specs.items():
        array = given[name]
        shape = tuple(array.shape) if isinstance(array, Tensor) else type(array).__name__
        if K == 0 or shape != (K, spec.V, spec.D) or not torch.isfinite(array).all():
            expected = f"finite tensors (K, {spec.V}, {spec.D}), with one K for all sectors"
            raise InputError("array that does not fit its sector", code="ARRAYS", expected=expected, found=shape, where=name)
    return dict(given)


def check_unchanged(lock: CellDigests, ends: Mapping[str, str]) -> None:
    """Compare the parents in a lock with cells of now, by the digests of their weights.

    Raises:
        IntegrityError: parents that are missing or changed since (``PARENT_CHANGED``).
    """
    there = {name: ends.get(name, "missing") for name in lock}
    wrong = [f"{name}: {there[name][:12]}" for name, row in lock.items() if there[name] != row["tensors"]]
    if wrong:
        remedy = "Get the parents by the digests in the lock, or make the VAE again from the cells of now."
        raise IntegrityError("parent changed since", code="PARENT_CHANGED", found=listed(wrong), remedy=remedy)


def check_channels(specs: Mapping[str, CellSpec]) -> None:
    """Refuse sectors of images with different channels.

    Raises:
        InputError: different channels (``CHANNELS``).
    """
    found = {spec.channels for spec in specs.values()}
    if len(found) > 1:
        raise InputError("sectors of different channels", code="CHANNELS", expected="one number", found=sorted(found))


def check_codes(codes: Sequence[Tensor], shapes: Sequence[tuple[int, int, int]]) -> None:
    """Refuse codes that are not (C, B, N, Z) for each (C, N, Z), with one B.

    Raises:
        InputError: other codes (``CODES``).
    """
    found = [tuple(z.shape) for z in codes]
    B = found[0][1] if found and len(found[0]) == 4 else -1
    expected = [(C, B, N, Z) for C, N, Z in shapes]
    if found != expected:
        words = ", ".join(f"({C}, B, {N}, {Z})" for C, N, Z in shapes)
        raise InputError("codes that do not fit the sectors", code="CODES", expected=words, found=found)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
