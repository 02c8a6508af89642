"""Admission by numbers: whether weights can be those of a cell, found without any digest.

Two levels. :func:`check_weights` looks at the numbers alone: finite, bounded, nothing dead. :func:`replay` runs the cell again:
it finds what looks like any other number, a tensor in another order or of another scale, or a bit turned over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import registry
from batteries.cell.cell import Cell
from batteries.cell.spec import CellSpec
from batteries.errors import FormatError, PolicyError

if TYPE_CHECKING:
    import numpy as np


LARGEST = 1000.0  # of a weight: the cells that ship reach 2.2, an untrained one starts with 2.0 (``alpha_logits``)
SMOOTHING = "boundary_smooth.net.2"  # starts as zeros, weight and bias, which is the identity
SHOWN = 6  # faults in a message


def check_weights(weights: Mapping[str, np.ndarray], spec: CellSpec, *, where: object) -> None:
    """Refuse numbers that no trained cell has.

    Args:
        weights: Arrays by tensor name.
        spec: What they must fit.
        where: The cell, for the message.

    Raises:
        FormatError: names, shapes or types that are not the spec's (``TENSORS``).
        PolicyError: a value that is not finite (``NON_FINITE``) or beyond 1000 (``OUT_OF_RANGE``); a matrix of one number, or a
            norm's weight of zeros (``DEAD_TENSOR``).
    """
    wanted = {name: (shape, "float32") for name, shape in spec.tensor_shapes().items()}
    found = {name: (array.shape, array.dtype.name) for name, array in weights.items()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        raise FormatError("tensors that do not fit the spec", code="TENSORS", found=_listed(wrong), where=where)
    ranges = {name: (float(array.min()), float(array.max())) for name, array in sorted(weights.items())}
    unbounded = [name for name, (low, high) in ranges.items() if not math.isfinite(high - low)]
    _refuse("values that are not finite", "NON_FINITE", unbounded, where)
    large = [f"{name} ({max(-low, high):.3g})" for name, (low, high) in ranges.items() if max(-low, high) > LARGEST]
    _refuse("weights out of all proportion", "OUT_OF_RANGE", large, where, expected=f"at most {LARGEST:g}")
    dead = [f"{name} (all {low:g})" for name, (low, _) in ranges.items() if _is_dead(name, weights[name], ranges)]
    _refuse("tensors that carry nothing", "DEAD_TENSOR", dead, where)


def replay(cell: Cell, *, where: object, exact: bool = False) -> tuple[str, ...]:
    """Measure a cell again on every probe of its manifest, and compare. Imports torch; 1 to 2 seconds of one core for a preset.

    Args:
        cell: The cell.
        where: What to call it in a message.
        exact: Allow for no rounding, as on the machine that measured it, with the same packages and threads. Then nothing that
            changes an error's last bit is passed over; else a fault as small as rounding may be
            (:mod:`registry.transfer.remeasure` says which).

    Returns:
        The probes that were replayed: those that this package has, with the digest that the manifest names.

    Raises:
        FormatError: as :func:`check_weights`.
        PolicyError: as :func:`check_weights`, or figures that differ by more than that (``REPLAY_MISMATCH``).
    """
    check_weights(cell.weights, cell.spec, where=where)
    replayed = []
    for probe, wrong in registry.measure_again(cell, exact=exact):
        said = [f"{probe}: {words}" for words in wrong]
        _refuse("weights that do not measure what the manifest says", "REPLAY_MISMATCH", said, where)
        replayed.append(probe)
    return tuple(replayed)


def _is_dead(name: str, array: np.ndarray, ranges: Mapping[str, tuple[float, float]]) -> bool:
    """Matrix of one number, or a norm's weight of zeros. Biases may be zeros and norms' weights ones: they start so."""
    low, high = ranges[name]
    if low != high or array.size == 1 or not name.endswith(".weight"):
        return False
    if name.startswith(SMOOTHING):
        return low != 0.0 or ranges[f"{SMOOTHING}.bias"] != (0.0, 0.0)
    return array.ndim > 1 or low == 0.0


def _refuse(what: str, code: str, wrong: Sequence[str], where: object, *, expected: object = None) -> None:
    if wrong:
        raise PolicyError(
            what,
            code=code,
            expected=expected,
            found=_listed(wrong),
            where=where,
            remedy="The weights were damaged before they were packaged, or are not those that were measured.",
        )


def _listed(wrong: Sequence[str]) -> str:
    return "; ".join(wrong[:SHOWN]) + (f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")
