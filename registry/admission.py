"""Admission by numbers: whether weights can be those of a cell, found without any digest.

Two levels. :func:`check_weights` looks at the numbers alone and needs no torch: finite, bounded, nothing dead. :func:`replay`
runs the cell on its probes again and compares with what its manifest says of it. That finds tensors in another order, of
another scale, or with a bit turned over, which are numbers like any others.

What another machine's rounding changes was measured over every cell that ships, on both its probes: one thread and two, with
and without AVX2, AVX-512, oneDNN and our compiled kernels, and all of it in float64. Root mean square errors moved by at most
1.7e-7, and by 2e-8 where the code is narrower than the patch; mean singular values by 4e-8; CV and rank by 2e-8 of themselves.
Each tolerance is ten times that, or more. Root mean square errors are compared, and not mean squares, because the first move by
no more than the reconstruction does, however small they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

import batteries
from batteries.cell import Cell
from batteries.errors import FormatError, InputError, PolicyError
from batteries.manifest import CvFigure, Measured
from batteries.spec import CellSpec

if TYPE_CHECKING:
    from batteries import Probe

LARGEST = 1000.0  # of a weight: the cells that ship reach 2.2, an untrained one starts with 2.0 (``alpha_logits``)
SMOOTHING = "boundary_smooth.net.2"  # starts as zeros, weight and bias, which is the identity

ROOT = 2e-6  # of a root mean square error; of itself where it is above 1
ROOT_NARROW = (
    2e-7  # where the code is narrower than the patch: most of the error is out of the decoder's reach, and of rounding's
)
SPECTRUM = 1e-6  # of a mean singular value; of itself where it is above 1
RELATIVE = 1e-6  # of a CV or an effective rank
SHOWN = 6  # figures in a message

Row = tuple[str, float, float, float]  # what, as promised, as found, how far apart they may be


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


def replay(cell: Cell, *, where: object) -> tuple[str, ...]:
    """Measure a cell again, and compare with the figures in its manifest. Imports torch; 1 to 2 seconds of one core.

    Args:
        cell: The cell.
        where: What to call it in the message.

    Returns:
        The probes that were replayed: those of the manifest that this package has, with the same digest.

    Raises:
        FormatError: as :func:`check_weights`.
        PolicyError: as :func:`check_weights`, or figures that are not the manifest's (``REPLAY_MISMATCH``).
    """
    check_weights(cell.weights, cell.spec, where=where)
    model = batteries.PatchSVAE.from_cell(cell)
    replayed, wrong = [], []
    for name, wanted in cell.manifest.measured.items():
        probe = _probe_of(name, wanted)
        if probe is None or probe.images.shape[1] != cell.spec.channels:
            continue
        replayed.append(name)
        try:
            found = batteries.measure(model, probe)
        except ValidationError:  # a figure that is not finite is none
            wrong.append(f"{name}: figures that are not finite")
        else:
            wrong += [f"{name}: {words}" for words in differences(wanted, found, cell.spec)]
    _refuse("the weights do not measure what the manifest says", "REPLAY_MISMATCH", wrong, where)
    return tuple(replayed)


def differences(wanted: Measured, found: Measured, spec: CellSpec) -> list[str]:
    """The figures of two measurements on one probe that differ by more than rounding, in words."""
    if len(wanted.spectrum) != len(found.spectrum) or wanted.mse_by_group.keys() != found.mse_by_group.keys():
        return ["figures of other groups, or of another width"]
    if isinstance(wanted.cv, CvFigure) != isinstance(found.cv, CvFigure):
        return ["CV that is degenerate in one of the two"]
    # not the other way round: what is not a number is no match
    return [f"{what} {b:.7g} instead of {a:.7g}" for what, a, b, most in _rows(wanted, found, spec) if not abs(a - b) <= most]


def _rows(wanted: Measured, found: Measured, spec: CellSpec) -> Iterator[Row]:
    root = ROOT_NARROW if min(spec.hidden, spec.V * (spec.D - 1)) < spec.patch_dim else ROOT
    groups = {f"MSE of {name}": (mse, found.mse_by_group[name]) for name, mse in wanted.mse_by_group.items()}
    for what, (a, b) in {"MSE": (wanted.mse.value, found.mse.value), **groups}.items():
        yield f"root {what}", _root(a), _root(b), root * max(1.0, _root(b))
    for i, (a, b) in enumerate(zip(wanted.spectrum, found.spectrum, strict=True)):
        yield f"S[{i}]", a, b, SPECTRUM * max(1.0, b)
    yield "effective rank", wanted.effective_rank.value, found.effective_rank.value, RELATIVE * found.effective_rank.value
    if isinstance(wanted.cv, CvFigure) and isinstance(found.cv, CvFigure):
        yield "CV", wanted.cv.value, found.cv.value, RELATIVE * found.cv.value


def _root(value: float) -> float:
    return math.sqrt(value) if value >= 0 else math.nan


def _probe_of(name: str, wanted: Measured) -> Probe | None:
    """The probe that figures are of, if this package has it."""
    try:
        probe = batteries.probe(name)
    except InputError:
        return None
    return probe if probe.digest == wanted.probe_digest else None


def _is_dead(name: str, array: np.ndarray, ranges: Mapping[str, tuple[float, float]]) -> bool:
    """A matrix of one number, or a norm's weight of zeros. Biases may be zeros, norms' weights ones: they start so."""
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
