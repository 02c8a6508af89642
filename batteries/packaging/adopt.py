"""Conversion of a foreign checkpoint to a cell: its spec is inferred from tensor shapes, and it is measured like any cell.

Fields that shapes do not determine are arguments with the published defaults: attention heads, activation, row norm and the
bound of alpha. Unknown facts of its training are null in the manifest, never guessed.
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
from batteries.packaging.measurable import refuse_unmeasurable
from batteries.packaging.package import Label, linear_code, measured_cell

UNKNOWN = "unknown"

Shapes = Mapping[str, tuple[int, ...]]

# tensors and axes that have each size
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
    """Make a cell from a PatchSVAE checkpoint, without running any code of the file.

    The cell is measured as by :func:`batteries.package`. Its model sees the probes on its own input scale, and its
    reconstructions are converted back, so that its errors are comparable with those of other cells.

    Args:
        path: File of torch 1.6 or later (``.pt``), or a ``.safetensors`` file: a state dict, bare or under ``state_dict``,
            ``model`` or ``model_state_dict``.
        label: Name, version, family, licence, description.
        input: Scale of the images the checkpoint was trained on, relative to photographs in [-1, 1] and noise as generated.
            :mod:`batteries.cell.input_scale` has ImageNet's, and converts a normalisation of images in [0, 1].
        source: Images of the cell's own domain, which name the domain and serve to fit the linear baselines.
        size: Side of its training images, in pixels.
        width: Width D; required if the checkpoint has no cross-attention to infer it from.
        heads: Attention heads; by default as published for the width.
        activation: Nonlinearity of encoder and decoder.
        row_norm: Normalisation of the rows of M.
        bounded_alpha: Limit of 20% on the change of a singular value by attention.
        command: Command that repeats the adoption, for the manifest.

    Raises:
        NotFoundError: missing file.
        PolicyError: checkpoint that needs code (``UNSAFE_FORMAT``), non-finite weights or figures, or a degenerate CV.
        FormatError: damaged file, not one state dict, not a PatchSVAE, or unsupported dtypes; all misfits are listed.
        InputError: missing width, or arguments that do not fit the checkpoint.

    >>> import batteries, torch
    >>> model = batteries.untrained(batteries.CellSpec.preset("high", patch_size=8, hidden=16, smooth_width=4), seed=0)
    >>> torch.save(model.state_dict(), "checkpoint.pt")
    >>> label = batteries.Label(name="theirs", version="1.0.0", family="theirs", license="unknown", description="")
    >>> cell = batteries.adopt("checkpoint.pt", label=label, input=batteries.InputScale(), source=batteries.NoiseSource())
    >>> cell.name, cell.spec == model.spec
    ('high/theirs', True)
    """
    refuse_shown(source)
    found = foreign_checkpoint.read(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.tensors.items()}
    choices = {"heads": heads, "activation": activation, "row_norm": row_norm, "bounded_alpha": bounded_alpha}
    spec = infer(shapes, width, choices, path)
    _refuse_misfits(shapes, spec, path)
    refuse_unmeasurable(spec, size, path)
    _refuse_input(spec, input, path)
    arrays, converted = foreign_checkpoint.floats(found.tensors, path)
    blob = weights_file.write(arrays)
    training = _training_facts(found, converted, source, size, command)
    code = replace(linear_code(spec, size, 0, source), fitted_on=f"at adoption: {source.facts.description}"[:2000])
    model = load_weights(untrained(spec, 0), arrays)
    try:
        return measured_cell(model, blob, label, training, code=code, input=input)
    except ValidationError as error:  # a manifest holds finite figures only
        raise PolicyError(
            "non-finite figures",
            code="NON_FINITE",
            found=fields_of(error),
            where=path,
            remedy="Its weights are finite, but not its results on a probe: check the file and the input scale.",
        ) from error


def infer(shapes: Shapes, width: int | None, choices: Mapping[str, Any], where: object) -> CellSpec:
    """Infer the spec that most of the tensors' shapes agree on; disagreeing shapes are refused later.

    Args:
        shapes: Shape by tensor name.
        width: Width D, if there is no cross-attention to infer it from.
        choices: Fields of the spec that shapes do not determine; as published if missing or None.
        where: Name of the file in messages.

    Raises:
        FormatError: missing sizes, or sizes that no PatchSVAE has.
        InputError: missing width, width that contradicts the shapes, or invalid choices.
    """
    sizes = {name: _most(shapes, places) for name, places in SIZES.items()}
    hidden, patch_dim, matrix, channels, smooth_width = sizes.values()
    layers = _count(LAYER, shapes)
    D = _width(shapes, matrix, layers, width, where) if matrix else 0
    side = math.isqrt(patch_dim // channels) if channels else 0
    if 0 in sizes.values() or matrix % D or channels * side**2 != patch_dim:
        raise FormatError(
            "not a PatchSVAE checkpoint",
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
        raise InputError("invalid spec", code="SPEC", found=fields_of(error), where=where) from error


def _width(shapes: Shapes, matrix: int, layers: int, given: int | None, where: object) -> int:
    """Return D, inferred from the layers of cross-attention, or else as given."""
    told = _most(shapes, (f"cross_attn.{layer}.{place}" for layer in range(layers) for place in WIDTHS))
    if not told and given is None:
        raise InputError(
            "unknown width: no cross-attention",
            code="WIDTH",
            expected=f"D, a divisor of {matrix} (V * D)",
            where=where,
            remedy="Give the width: width=D, or --width D.",
        )
    if given is not None and (given < 1 or (told and told != given) or matrix % given):
        expected = str(told) if told else f"a divisor of {matrix} (V * D)"
        raise InputError("width contradicts the tensors", code="WIDTH", expected=expected, found=given, where=where)
    return told or given or 0


def _most(shapes: Shapes, places: Iterable[str]) -> int:
    """Return the most common size of these places ("name axis"); 0 if none exists."""
    sizes: Counter[int] = Counter()
    for place in places:
        name, _, axis = place.partition(" ")
        sizes.update(shapes.get(name, ())[int(axis) : int(axis) + 1])
    return sizes.most_common(1)[0][0] if sizes else 0


def _count(numbered: re.Pattern[str], shapes: Shapes) -> int:
    """Return one more than the highest number in the names."""
    return max((int(match[1]) + 1 for name in shapes if (match := numbered.match(name))), default=0)


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


def _training_facts(
    found: foreign_checkpoint.Foreign, converted: tuple[str, ...], source: Source, size: int, command: str
) -> TrainingFacts:
    """Return the known facts: the file, and the settings it was measured with."""
    words = f"unknown: adopted from {found.name}, sha256:{found.digest}"
    data = DataSource(
        kind=source.facts.kind,
        description=f"{words}, {' and '.join(converted)} made float32" if converted else words,
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
        raise InputError("invalid training facts", code="TRAINING", found=fields_of(error)) from error
