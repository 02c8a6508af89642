"""Function of a foreign checkpoint, found without measuring: from its tensors, its config and the options of the user.

Attention heads, activation and its sites, row norm and the bound of alpha are as options say, else as the config says, else as
published.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from batteries import short_repr
from batteries.cell import weights_file
from batteries.cell.manifest import Claimed
from batteries.cell.spec import CellSpec, default_heads
from batteries.errors import FormatError, InputError
from batteries.packaging import foreign_checkpoint, foreign_config
from batteries.packaging.final_report import with_report
from batteries.packaging.foreign_checkpoint import AnyCheckpoint
from batteries.packaging.foreign_config import Settings
from batteries.packaging.inferred_spec import Shapes, infer
from batteries.packaging.measurable import refuse_too_large

DEFAULT_SIZE = 64  # pixels
ABLATIONS = "model_state"  # entry with the weights in files of the ablation trainers
ABLATION_HEADS = 4  # their default


@dataclass(frozen=True, eq=False)
class Adoptable:
    """Checkpoint whose function is known: all of an adoption that needs no measurement.

    Attributes:
        name: Name of the file, without its folder; of a bank with its key.
        digest: SHA-256 of the file.
        spec: Architecture.
        arrays: Weights as float32 arrays by tensor name.
        converted: Other dtypes of the file's tensors.
        size: Side of its training images in pixels: the option, that of the config, or 64.
        claimed: Claims of the file about its training; None if it has none.
        lines: Sources of its function, a sentence each.
    """

    name: str
    digest: str
    spec: CellSpec
    arrays: dict[str, np.ndarray]
    converted: tuple[str, ...]
    size: int
    claimed: Claimed | None
    lines: tuple[str, ...]

    __repr__ = short_repr.fields


def adoptable(
    path: AnyCheckpoint,
    *,
    key: str | None = None,
    size: int | None = None,
    width: int | None = None,
    options: Mapping[str, Any],
) -> Adoptable:
    """Read a checkpoint and find out its function, without measuring it.

    Args:
        path: File, or one that is in memory.
        key: Entry of the file that has the weights, or None.
        size: Side of the training images in pixels, or None.
        width: Width D, or None.
        options: Fields of the spec that tensors do not tell, each as the user says, or None.

    Raises:
        BatteriesError: any error of :func:`batteries.adopt`, except those of measuring.
    """
    opened = foreign_checkpoint.opened(path)
    found = foreign_checkpoint.read(opened, key)
    settings = foreign_config.read(found.beside, path)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.tensors.items()}
    said = {name: value for name, value in {**options, "D": width}.items() if value is not None}
    readout = foreign_config.readout_of(settings, shapes, said.get("readout"), path)
    choices = {**settings.choices, "heads": settings.counts.get("heads"), **said, "readout": readout}
    D = choices.pop("D", None if any(name.startswith("cross_attn.") for name in shapes) else settings.counts.get("D"))
    spec = infer(shapes, D, choices, path)
    foreign_config.refuse_contradictions(settings, spec, said, path)
    _refuse_misfits(shapes, spec, path)
    refuse_too_large(spec, path)  # before its numbers are read: a file of kilobytes can claim any size
    if "heads" not in choices or choices["heads"] is None:
        _refuse_doubtful_heads(spec, found.key, path)
    arrays, converted = foreign_checkpoint.floats(found.tensors, path)
    weights_file.refuse_non_finite(arrays, path)
    claimed, report_lines = (settings.claimed, []) if opened.array else with_report(settings.claimed, opened.file)
    lines = (*found.lines, *_sources(spec, settings, said), *report_lines)
    return Adoptable(
        found.name,
        found.digest,
        spec,
        arrays,
        converted,
        next(side for side in (size, settings.size, DEFAULT_SIZE) if side is not None),
        claimed,
        lines,
    )


def _refuse_doubtful_heads(spec: CellSpec, key: str | None, where: object) -> None:
    """Refuse to guess the heads where published trainers differ on them."""
    usual = {default_heads(spec.D), ABLATION_HEADS if spec.D % ABLATION_HEADS == 0 else default_heads(spec.D)}
    if key == ABLATIONS and spec.cross_layers and len(usual) > 1:
        raise InputError(
            "unknown number of heads",
            code="HEADS",
            expected=" or ".join(map(str, sorted(usual))),
            found=f"{ABLATIONS} of D {spec.D} without heads in a config: trainers that write it have both",
            where=where,
            remedy="Give the heads: heads=N, or --heads N.",
        )


def _sources(spec: CellSpec, settings: Settings, said: Mapping[str, Any]) -> list[str]:
    """Tell where the fields that tensors do not tell come from: options, which win over the config, config, or publications."""
    config = {**settings.choices, **{name: settings.counts[name] for name in ("heads", "D") if name in settings.counts}}
    if settings.readout:
        config["readout"] = settings.readout
    lines = []
    for field in ("D", "heads", "activation", "activation_sites", "row_norm", "bounded_alpha", "readout"):
        value = getattr(spec, field)
        if field in said:
            over = f", not {config[field]} of the config" if config.get(field, value) != value else ""
            lines.append(f"{field} {value} by option{over}")
        elif field in config:
            lines.append(f"{field} {value} of the config")
    if spec.cross_layers and "heads" not in {*said, *config}:
        lines.append(f"heads {spec.heads} as published for D {spec.D}: nothing in the file tells them")
    return lines


def _refuse_misfits(shapes: Shapes, spec: CellSpec, where: object) -> None:
    try:
        weights_file.refuse_misfits({name: (shape, 0, 0) for name, shape in shapes.items()}, spec, where)
    except FormatError as error:
        error.expected = f"{spec.parameters:,} parameters of {spec!r}"
        error.found = f"{sum(map(math.prod, shapes.values())):,}: {error.found}"
        raise
