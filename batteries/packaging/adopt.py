"""Conversion of a foreign checkpoint to a cell: its function is read from tensors and config, and it is measured like any cell.

Attention heads, activation and its sites, row norm and the bound of alpha are as options say, else as the config says, else as
published. Unknown facts of its training are null in the manifest; what the file claims of them is kept as claims.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from batteries import __version__, short_repr
from batteries.cell import weights_file
from batteries.cell.cell import Cell
from batteries.cell.manifest import Claimed, DataSource, InputScale, TrainingFacts
from batteries.cell.spec import Activation, ActivationSites, CellSpec, Readout, RowNorm, default_heads
from batteries.data.sources import Source, refuse_shown
from batteries.engine.torch_settings import neutral
from batteries.errors import FormatError, InputError, PolicyError
from batteries.io.canonical_json import fields_of
from batteries.model.patch_svae import load_weights, untrained
from batteries.packaging import foreign_checkpoint, foreign_config
from batteries.packaging.foreign_config import Settings
from batteries.packaging.inferred_spec import Shapes, infer
from batteries.packaging.measurable import refuse_unmeasurable
from batteries.packaging.package import Label, linear_code, measured_cell

UNKNOWN = "unknown"

DEFAULT_SIZE = 64  # pixels
ABLATIONS, ABLATION_HEADS = (
    "model_state",
    4,
)  # entry with the weights in files of the ablation trainers, and their default heads


@dataclass(frozen=True, eq=False)
class Adoptable:
    """Checkpoint whose function is known: all of an adoption that needs no measurement.

    Attributes:
        name: Name of the file, without its folder.
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


@neutral()
def adopt(
    path: str | Path,
    *,
    label: Label,
    input: InputScale,
    source: Source,
    key: str | None = None,
    size: int | None = None,
    width: int | None = None,
    heads: int | None = None,
    activation: Activation | None = None,
    activation_sites: ActivationSites | None = None,
    row_norm: RowNorm | None = None,
    bounded_alpha: bool | None = None,
    readout: Readout | None = None,
    command: str = "batteries.adopt",
) -> Cell:
    """Make a cell from a PatchSVAE checkpoint, without running any code of the file.

    What the tensors do not tell is read from the config in the file, if it has one; arguments win over it, and
    ``cell.manifest.training.reading`` says so. The cell is measured as by :func:`batteries.package`. Its model sees the probes
    on its own input scale, and its reconstructions are converted back, so that its errors compare with those of other cells.

    Args:
        path: File of torch 1.6 or later (``.pt``), or a ``.safetensors`` file: bare, or under ``model_state_dict``,
            ``model_state``, ``state_dict``, ``model`` or ``ema_...``.
        label: Name, version, family, licence, description.
        input: Scale of the images the checkpoint was trained on, relative to photographs in [-1, 1] and noise as generated.
            :mod:`batteries.cell.input_scale` has ImageNet's, and converts a normalisation of images in [0, 1].
        source: Images of the cell's own domain, which name the domain and serve to fit the linear baselines.
        key: Entry of the file that has the weights; by default the first of the usual ones.
        size: Side of its training images, in pixels; by default the config's, or 64.
        width: Width D; required if neither cross-attention nor a config tells it.
        heads: Attention heads; by default the config's, or as published for the width.
        activation: Nonlinearity of encoder and decoder; by default the config's, or GELU.
        activation_sites: Layers with this activation; by default as the config says, or all.
        row_norm: Normalisation of the rows of M; by default the config's, or unit length.
        bounded_alpha: Limit of 20% on the change of a singular value by attention; by default True.
        readout: Way from M to the decoder; by default as config and tensors say, or by singular value decomposition.
        command: Command that repeats the adoption, for the manifest.

    Raises:
        NotFoundError: missing file.
        PolicyError: checkpoint that needs code (``UNSAFE_FORMAT``), non-finite weights or figures, or a degenerate CV.
        FormatError: damaged file, no state dict, not a PatchSVAE or a relative of it (``RELATIVE``), a config that contradicts
            itself or the tensors (``CONFIG``), or unsupported dtypes; all misfits are listed.
        InputError: missing width, arguments that do not fit the checkpoint, a function that no spec has (``FUNCTION``),
            or heads that published trainers differ on (``HEADS``).

    >>> import batteries, torch
    >>> model = batteries.untrained(batteries.CellSpec.preset("high", patch_size=8, hidden=16, smooth_width=4), seed=0)
    >>> torch.save({"model_state_dict": model.state_dict(), "config": {"n_heads": 4}, "epoch": 7}, "checkpoint.pt")
    >>> label = batteries.Label(name="theirs", version="1.0.0", family="theirs", license="unknown", description="")
    >>> cell = batteries.adopt("checkpoint.pt", label=label, input=batteries.InputScale(), source=batteries.NoiseSource())
    >>> cell.name, cell.spec.heads, cell.manifest.training.claimed.epoch
    ('high/theirs', 4, 7)
    """
    refuse_shown(source)
    options = {
        "heads": heads,
        "activation": activation,
        "activation_sites": activation_sites,
        "row_norm": row_norm,
        "bounded_alpha": bounded_alpha,
        "readout": readout,
    }
    found = adoptable(path, key=key, size=size, width=width, options=options)
    refuse_unmeasurable(found.spec, found.size, path, any_width=True, data=found.claimed.dataset if found.claimed else None)
    _refuse_input(found.spec, input, path)
    training = _training_facts(found, source, command)
    code = linear_code(found.spec, found.size, 0, source)
    code = replace(code, fitted_on=f"at adoption: {source.facts.description}"[:2000])
    model = load_weights(untrained(found.spec, 0), found.arrays)
    try:
        return measured_cell(model, weights_file.write(found.arrays), label, training, code=code, input=input)
    except ValidationError as error:  # a manifest holds finite figures only
        raise PolicyError(
            "non-finite figures",
            code="NON_FINITE",
            found=fields_of(error),
            where=path,
            remedy="Its weights are finite, but not its results on a probe: check the file and the input scale.",
        ) from error


def adoptable(
    path: str | Path, *, key: str | None = None, size: int | None = None, width: int | None = None, options: Mapping[str, Any]
) -> Adoptable:
    """Read a checkpoint and find out its function, without measuring it.

    Args:
        path: File.
        key: Entry of the file that has the weights, or None.
        size: Side of the training images in pixels, or None.
        width: Width D, or None.
        options: Fields of the spec that tensors do not tell, each as the user says, or None.

    Raises:
        BatteriesError: any error of :func:`adopt`, except those of measuring.
    """
    found = foreign_checkpoint.read(path, key)
    settings = foreign_config.read(found.beside, path)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.tensors.items()}
    said = {name: value for name, value in {**options, "D": width}.items() if value is not None}
    readout = foreign_config.readout_of(settings, shapes, said.get("readout"), path)
    choices = {**settings.choices, "heads": settings.counts.get("heads"), **said, "readout": readout}
    D = choices.pop("D", None if any(name.startswith("cross_attn.") for name in shapes) else settings.counts.get("D"))
    spec = infer(shapes, D, choices, path)
    foreign_config.refuse_contradictions(settings, spec, said, path)
    _refuse_misfits(shapes, spec, path)
    if "heads" not in choices or choices["heads"] is None:
        _refuse_doubtful_heads(spec, found.key, path)
    arrays, converted = foreign_checkpoint.floats(found.tensors, path)
    weights_file.refuse_non_finite(arrays, path)
    lines = (*found.lines, *_sources(spec, settings, said))
    return Adoptable(
        found.name,
        found.digest,
        spec,
        arrays,
        converted,
        next(side for side in (size, settings.size, DEFAULT_SIZE) if side is not None),
        settings.claimed,
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


def _refuse_input(spec: CellSpec, input: InputScale, where: object) -> None:
    """Refuse an input scale of another number of channels than the cell's."""
    numbers = (len(input.mean), len(input.std))
    if numbers != (spec.channels,) * 2:
        raise InputError(
            "input scale of another number of channels",
            code="CHANNELS",
            expected=f"{spec.channels} numbers of mean and of std",
            found=numbers,
            where=where,
        )


def _training_facts(found: Adoptable, source: Source, command: str) -> TrainingFacts:
    """Return the known facts: the file, how it was read, its claims, and the settings it was measured with."""
    words = f"unknown: adopted from {found.name}, sha256:{found.digest}"
    data = DataSource(
        kind=source.facts.kind,
        description=f"{words}, {' and '.join(found.converted)} made float32" if found.converted else words,
        digest=None,
        images=None,
        license=UNKNOWN,
        source=UNKNOWN,
        noise_mix=source.facts.noise_mix,
    )
    try:
        return TrainingFacts(
            data=data,
            command=command,
            steps=None,
            batch=None,
            size=found.size,
            optimiser=UNKNOWN,
            schedule=UNKNOWN,
            soft_hand=UNKNOWN,
            seed=None,
            package=__version__,
            torch=torch.__version__,
            triage=None,
            trajectory=(),
            claimed=found.claimed,
            reading=tuple(line[:2000] for line in found.lines),
        )
    except ValidationError as error:
        raise InputError("invalid training facts", code="TRAINING", found=fields_of(error)) from error
