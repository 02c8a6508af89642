"""A checkpoint that somebody else trained becomes a cell: its spec read off its tensors' shapes, and measured like one of ours.

What no shape tells is asked for or is as published: attention heads, activation, row norm and the bound of alpha. What is not
known of its training is null in the manifest, and no guess.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from batteries import __version__
from batteries.cell import weights_file
from batteries.cell.cell import Cell
from batteries.cell.manifest import DataSource, InputScale, TrainingFacts
from batteries.cell.spec import Activation, CellSpec, RowNorm
from batteries.data.sources import Source, refuse_shown
from batteries.engine.torch_settings import neutral
from batteries.errors import FormatError, InputError, PolicyError
from batteries.io.canonical_json import fields_of
from batteries.model.patch_svae import load_weights, untrained
from batteries.packaging import foreign_checkpoint
from batteries.packaging.package import Label, linear_code, measured_cell

CHANNELS, PROBE_SIZE = 3, 64  # of the smallest probes; the others are a multiple as large
MAX_SIZE = 4096  # pixels, as of a training plan
UNKNOWN = "unknown"

Shapes = Mapping[str, tuple[int, ...]]

# where each size stands: a tensor and one of its axes
SIZES = {
    "hidden": ("enc_in.weight 0", "enc_in.bias 0", "enc_out.weight 1", "dec_in.weight 0", "dec_in.bias 0", "dec_out.weight 1"),
    "patch_dim": ("enc_in.weight 1", "dec_out.weight 0", "dec_out.bias 0"),
    "V * D": ("enc_out.weight 0", "enc_out.bias 0", "dec_in.weight 1"),
    "channels": ("boundary_smooth.net.0.weight 1", "boundary_smooth.net.2.weight 0", "boundary_smooth.net.2.bias 0"),
    "smooth_width": ("boundary_smooth.net.0.weight 0", "boundary_smooth.net.0.bias 0", "boundary_smooth.net.2.weight 1"),
}
WIDTHS = ("alpha_logits 0", "norm.weight 0", "norm.bias 0", "out_proj.weight 0", "out_proj.bias 0", "qkv.weight 1")
BLOCK = re.compile(r"(?:enc|dec)_blocks\.(\d{1,4})\.")
LAYER = re.compile(r"cross_attn\.(\d{1,4})\.")


@neutral()
def adopt(
    path: str | Path,
    *,
    label: Label,
    input: InputScale,
    source: Source,
    size: int = 64,
    width: int | None = None,
    heads: int | None = None,
    activation: Activation = "gelu",
    row_norm: RowNorm = "sphere",
    bounded_alpha: bool = True,
    command: str = "batteries.adopt",
) -> Cell:
    """Make a cell of a PatchSVAE checkpoint. No code of the file is run.

    The cell is measured as :func:`batteries.package` measures one of ours. Its model sees the probes on its own input scale;
    its reconstructions come back from there first, so that its errors compare with those of every other cell.

    Args:
        path: A ``.pt`` file of torch 1.6 or later, or a ``.safetensors`` file: a state dict, bare or under ``state_dict``,
            ``model`` or ``model_state_dict``.
        label: Name, version, family, licence, description.
        input: What the checkpoint was trained on, as it relates to photographs in [-1, 1] and noise as generated.
            :mod:`batteries.cell.input_scale` has that of ImageNet, and makes one from what images in [0, 1] were normalised
            with.
        source: Images of the cell's own domain: they say what that is, and the linear baselines are fitted on them.
        size: Side of its training images, in pixels.
        width: D; needed where the checkpoint has no cross-attention to tell.
        heads: Attention heads; left out, as published for the width.
        activation: Of encoder and decoder.
        row_norm: What is done to the rows of M.
        bounded_alpha: Whether attention changes a singular value by at most 20%.
        command: What a reader types to adopt it again.

    Raises:
        NotFoundError: no such file.
        PolicyError: a checkpoint that needs code (``UNSAFE_FORMAT``), weights or figures that are not finite, or a CV that is
            degenerate or in no band.
        FormatError: damaged, not one state dict, no PatchSVAE, or tensors of another type; all misfits are listed.
        InputError: a width that is needed, or arguments that do not fit the checkpoint.
    """
    refuse_shown(source)
    found = foreign_checkpoint.read(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.tensors.items()}
    choices = {"heads": heads, "activation": activation, "row_norm": row_norm, "bounded_alpha": bounded_alpha}
    spec = infer(shapes, width, choices, path)
    _refuse_misfits(shapes, spec, path)
    _refuse_unmeasurable(spec, input, size, path)
    arrays, converted = foreign_checkpoint.floats(found.tensors, path)
    blob = weights_file.write(arrays)
    training = _training_facts(found, converted, source, size, command)
    code = replace(linear_code(spec, size, 0, source), fitted_on=f"at adoption: {source.facts.description}"[:2000])
    model = load_weights(untrained(spec, 0), arrays)
    try:
        return measured_cell(model, blob, label, training, code=code, input=input)
    except ValidationError as error:  # a manifest holds finite figures only
        raise PolicyError(
            "figures that are not finite",
            code="NON_FINITE",
            found=fields_of(error),
            where=path,
            remedy="Its weights are finite and what it makes of a probe is not: check the file, and the input scale.",
        ) from error


def infer(shapes: Shapes, width: int | None, choices: Mapping[str, Any], where: object) -> CellSpec:
    """Spec that most of the tensors' shapes agree on; whether all of them do is asked afterwards.

    Args:
        shapes: Shape by tensor name.
        width: D, where there is no cross-attention to tell.
        choices: Fields of the spec that no shape tells; as published where left out or None.
        where: The file, for the message.

    Raises:
        FormatError: sizes that are missing, or no PatchSVAE's.
        InputError: a width that is needed, or that the shapes deny; choices that make no spec.
    """
    sizes = {name: _most(shapes, places) for name, places in SIZES.items()}
    hidden, patch_dim, matrix, channels, smooth_width = sizes.values()
    layers = _count(LAYER, shapes)
    D = _width(shapes, matrix, layers, width, where) if matrix else 0
    side = math.isqrt(patch_dim // channels) if channels else 0
    if 0 in sizes.values() or matrix % D or channels * side**2 != patch_dim:
        raise FormatError(
            "not the tensors of a PatchSVAE",
            code="ST_TENSORS",
            expected="enc_in, enc_out, dec_in, dec_out and boundary_smooth.net, of sizes that agree (0: none found)",
            found="; ".join([*(f"{name} {size}" for name, size in sizes.items()), f"D {D}", ", ".join(sorted(shapes))]),
            where=where,
        )
    read: dict[str, Any] = {
        "V": matrix // D,
        "D": D,
        "patch_size": side,
        "hidden": hidden,
        "depth": _count(BLOCK, shapes),
        "cross_layers": layers,
        "smooth_width": smooth_width,
        "channels": channels,
    }
    try:
        return CellSpec(**read, **{name: value for name, value in choices.items() if value is not None})
    except ValidationError as error:
        raise InputError("a spec that cannot be built", code="SPEC", found=fields_of(error), where=where) from error


def _width(shapes: Shapes, matrix: int, layers: int, given: int | None, where: object) -> int:
    """D: what the layers of cross-attention say, else what was given."""
    told = _most(shapes, (f"cross_attn.{layer}.{place}" for layer in range(layers) for place in WIDTHS))
    if not told and given is None:
        raise InputError(
            "no cross-attention that would tell the width",
            code="WIDTH",
            expected=f"D, a divisor of {matrix} (V * D)",
            where=where,
            remedy="Give the width: width=D, or --width D.",
        )
    if given is not None and (given < 1 or (told and told != given) or matrix % given):
        expected = str(told) if told else f"a divisor of {matrix} (V * D)"
        raise InputError("a width that the tensors deny", code="WIDTH", expected=expected, found=given, where=where)
    return told or given or 0


def _most(shapes: Shapes, places: Iterable[str]) -> int:
    """Size that most of these places ("name axis") have; 0 where none of them is there."""
    sizes: Counter[int] = Counter()
    for place in places:
        name, _, axis = place.partition(" ")
        sizes.update(shapes.get(name, ())[int(axis) : int(axis) + 1])
    return sizes.most_common(1)[0][0] if sizes else 0


def _count(numbered: re.Pattern[str], shapes: Shapes) -> int:
    """One more than the highest number that a name carries."""
    return max((int(match[1]) + 1 for name in shapes if (match := numbered.match(name))), default=0)


def _refuse_misfits(shapes: Shapes, spec: CellSpec, where: object) -> None:
    try:
        weights_file.refuse_misfits({name: (shape, 0, 0) for name, shape in shapes.items()}, spec, where)
    except FormatError as error:
        error.expected = f"{spec.parameters:,} parameters of {spec!r}"
        error.found = f"{sum(map(math.prod, shapes.values())):,}: {error.found}"
        raise


def _refuse_unmeasurable(spec: CellSpec, input: InputScale, size: int, where: object) -> None:
    """What a checkpoint may be and a cell may not, told before anything is computed."""
    if 4 * spec.parameters > weights_file.MAX_CELL:
        most = weights_file.MAX_CELL // 4
        raise FormatError(
            "too large for a cell", code="TOO_LARGE", expected=f"{most:,} parameters", found=f"{spec.parameters:,}", where=where
        )
    channels = (spec.channels, len(input.mean), len(input.std))
    if channels != (CHANNELS,) * 3:
        raise InputError(
            "no probe of that many channels",
            code="CHANNELS",
            expected=f"{CHANNELS} of the cell, and as many numbers of the input scale's mean and std",
            found=channels,
            where=where,
        )
    if not 1 <= size <= MAX_SIZE:
        raise InputError("no side of an image", code="IMAGE_SIZE", expected=f"1 to {MAX_SIZE} pixels", found=size)
    for side in (size, PROBE_SIZE):
        spec.grid(side, side)


def _training_facts(
    found: foreign_checkpoint.Foreign, converted: tuple[str, ...], source: Source, size: int, command: str
) -> TrainingFacts:
    """What is known: the file, and what it was measured with."""
    words = f"unknown: adopted from {found.name}, sha256:{found.digest}"
    data = DataSource(
        kind=source.facts.kind,
        description=f"{words}, {' and '.join(converted)} made float32" if converted else words,
        digest=None,
        images=None,
        license=UNKNOWN,
        source=UNKNOWN,
    )
    try:
        return TrainingFacts(
            data=data,
            command=command,
            steps=None,
            batch=None,
            size=size,
            optimiser=UNKNOWN,
            schedule=UNKNOWN,
            soft_hand=UNKNOWN,
            seed=None,
            package=__version__,
            torch=torch.__version__,
            triage=None,
            trajectory=(),
        )
    except ValidationError as error:
        raise InputError("a manifest that cannot be written", code="TRAINING", found=fields_of(error)) from error
