"""Checks of a cell before it is published: its weights by their values, independent of digests, its band, its figures.

:func:`check_weights` examines the values alone: finite, bounded, no constant matrices. :func:`replay` measures the cell again,
which also finds permuted or rescaled tensors and flipped bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import registry
from batteries.cell.cell import Cell
from batteries.cell.manifest import CvFigure, Manifest
from batteries.cell.spec import CellSpec
from batteries.errors import FormatError, PolicyError
from batteries.geometry.attractor import band_of

if TYPE_CHECKING:
    import numpy as np


LARGEST = 1000.0  # limit of a weight: shipped cells reach 7.0, untrained ones start with 2.0 (``alpha_logits``)
SMOOTHING = "boundary_smooth.net.2"  # weight and bias start as zeros, which makes smoothing the identity
SHOWN = 6  # largest number of faults in a message


def check_weights(weights: Mapping[str, np.ndarray], spec: CellSpec, *, where: object) -> None:
    """Raise if weights have values that no trained cell has.

    Args:
        weights: Arrays by tensor name.
        spec: Spec that names, shapes and types must match.
        where: Name of the cell in messages.

    Raises:
        FormatError: names, shapes or types that do not match the spec (``TENSORS``).
        PolicyError: non-finite value (``NON_FINITE``), value beyond 1000 (``OUT_OF_RANGE``), constant matrix, or norm with a
            weight of zeros (``DEAD_TENSOR``).
    """
    wanted = {name: (shape, "float32") for name, shape in spec.tensor_shapes().items()}
    found = {name: (array.shape, array.dtype.name) for name, array in weights.items()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        raise FormatError("tensors do not match the spec", code="TENSORS", found=_listed(wrong), where=where)
    ranges = {name: (float(array.min()), float(array.max())) for name, array in sorted(weights.items())}
    unbounded = [name for name, (low, high) in ranges.items() if not math.isfinite(high - low)]
    _refuse("non-finite values", "NON_FINITE", unbounded, where)
    large = [f"{name} ({max(-low, high):.3g})" for name, (low, high) in ranges.items() if max(-low, high) > LARGEST]
    _refuse("weights out of range", "OUT_OF_RANGE", large, where, expected=f"at most {LARGEST:g}")
    dead = [f"{name} (all {low:g})" for name, (low, _) in ranges.items() if _is_dead(name, weights[name], ranges)]
    _refuse("constant tensors", "DEAD_TENSOR", dead, where)


def replay(cell: Cell, *, where: object, exact: bool = False) -> tuple[str, ...]:
    """Measure a cell again on every probe of its manifest, and compare every measured figure. Imports torch.

    It takes 2 to 6 seconds of one core for a preset.

    Args:
        cell: Cell to measure.
        where: Name of the cell in messages.
        exact: Whether to allow no rounding, as on the machine that measured it, with the same packages and threads. Otherwise
            faults as small as rounding may go unnoticed (see :mod:`registry.transfer.remeasure`).

    Returns:
        Names of the probes replayed: those that this package has with the digest in the manifest.

    Raises:
        FormatError: as :func:`check_weights`.
        PolicyError: as :func:`check_weights`, or figures that differ by more than the tolerance (``REPLAY_MISMATCH``), each
            with the value claimed, the value measured, and the tolerance.
    """
    check_weights(cell.weights, cell.spec, where=where)
    found = dict(registry.measure_again(cell, exact=exact))
    said = [f"{probe}: {words}" for probe, wrong in found.items() for words in wrong]
    if said:
        raise PolicyError(
            "measured figures differ from the manifest",
            code="REPLAY_MISMATCH",
            expected="figures that the weights have",
            found="; ".join(said),
            where=where,
            remedy="The weights were damaged before they were packaged, or the manifest was edited: package the cell again.",
        )
    return tuple(found)


@dataclass(frozen=True)
class Checked:
    """A cell as it is written: manifest, its bytes and those of the weights, read back as strictly as a pull reads them."""

    manifest: Manifest
    manifest_bytes: bytes
    blob: bytes


def check(cell: Cell) -> Checked:
    """Check all of a cell that needs no measurement: its bytes, weights and band.

    Raises:
        PolicyError: band contradicted by the CV (``BAND_DENIED``), or implausible weights.
        IntegrityError: weights that do not match the manifest.
        FormatError: manifest that no reader would accept.
    """
    manifest_bytes = cell.manifest.to_bytes()
    manifest = Manifest.from_bytes(manifest_bytes, where=f"the manifest of {cell.name}")
    blob = cell.to_bytes()
    Cell.from_bytes(blob, manifest, where=cell.name)
    check_weights(cell.weights, cell.spec, where=cell.name)
    _refuse_denied_band(manifest)
    return Checked(manifest, manifest_bytes, blob)


def refuse_false_figures(cell: Cell) -> None:
    """Measure a cell again, on every probe that its manifest names."""
    replayed = replay(cell, where=cell.name)
    strange = sorted({*cell.manifest.measured, *cell.manifest.untrained} - {*replayed})
    if strange:
        raise PolicyError(
            "figures that cannot be measured again",
            code="UNKNOWN_PROBE",
            expected="probes of this package with the digests in the manifest, whose images the cell takes",
            found=", ".join(strange),
            where=cell.name,
            remedy="Package the cell again with this version.",
        )


def _refuse_denied_band(manifest: Manifest) -> None:
    """Raise if the band is not the one measured by the deciding CV on the cell's own probe."""
    own, claimed, deciding = manifest.own, manifest.identity.band, manifest.own.deciding_cv
    measured = band_of(deciding.value if isinstance(deciding, CvFigure) else None, manifest.spec.D)
    if measured is None or {claimed, own.band} != {measured}:
        cv = f"CV {deciding.value:.4g}" if isinstance(deciding, CvFigure) else deciding.degenerate
        raise PolicyError(
            "band contradicted by the measured CV",
            code="BAND_DENIED",
            expected=f"{measured or 'no band'} ({cv} on {manifest.own_probe})",
            found=f"{claimed} (and {own.band or 'no band'} beside the CV)",
            where=manifest.path,
            remedy="A band is measured, never typed: package the cell again.",
        )


def _is_dead(name: str, array: np.ndarray, ranges: Mapping[str, tuple[float, float]]) -> bool:
    """Return whether a tensor is a constant matrix or a norm's weight of zeros; zero biases and norms of ones are initial."""
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
            remedy="The weights were damaged before they were packaged, or are not the ones that were measured.",
        )


def _listed(wrong: Sequence[str]) -> str:
    return "; ".join(wrong[:SHOWN]) + (f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")
