"""Limits of a spec whose cells are measured on the named probes. Does not import torch."""

from __future__ import annotations

from batteries.cell import weights_file
from batteries.cell.spec import CellSpec
from batteries.errors import FormatError, InputError
from batteries.geometry.attractor import SIMPLEX

CHANNELS, PROBE_SIZE = 3, 64  # channels and side of the smallest probes; the others' side is a multiple
MAX_SIZE = 4096  # pixels, as in a training plan


def refuse_unmeasurable(spec: CellSpec, size: int, where: object, *, any_width: bool = False, data: str | None = None) -> None:
    """Refuse, before any computation, a spec whose cells cannot be measured.

    Args:
        spec: Architecture of a cell to train or to adopt.
        size: Side of its images, in pixels.
        where: Name of the cell, or path of its checkpoint, in messages.
        any_width: Permission for widths without a CV, whose band is ``open``; training needs one for its triage.
        data: Data set that the images would have to be of, if it is known.

    Raises:
        FormatError: more parameters than a cell may have (``TOO_LARGE``).
        InputError: other channels than images have (``CHANNELS``), a width without a CV (``NO_CV``), or an image size that is
            out of range or no multiple of the patch size (``IMAGE_SIZE``).
    """
    refuse_too_large(spec, where)
    if spec.channels != CHANNELS:
        named = f", trained on {data}" if data else ""
        raise InputError(
            "unsupported number of channels",
            code="CHANNELS",
            expected=f"{CHANNELS}: no probe has other images",
            found=f"{spec.channels}{named}",
            where=where,
        )
    if not any_width and spec.D < SIMPLEX:
        raise InputError("width without a CV", code="NO_CV", expected=f"D of {SIMPLEX} or more", found=spec.D, where=where)
    if not 1 <= size <= MAX_SIZE:
        raise InputError("invalid image size", code="IMAGE_SIZE", expected=f"1 to {MAX_SIZE} pixels", found=size)
    for side in (size, PROBE_SIZE):
        spec.grid(side, side)


def refuse_too_large(spec: CellSpec, where: object) -> None:
    """Refuse a spec with more parameters than a cell may have.

    Raises:
        FormatError: too many parameters (``TOO_LARGE``).
    """
    most = weights_file.MAX_CELL // 4
    if spec.parameters > most:
        raise FormatError(
            "too large for a cell", code="TOO_LARGE", expected=f"{most:,} parameters", found=f"{spec.parameters:,}", where=where
        )
