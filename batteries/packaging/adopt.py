"""Conversion of a foreign checkpoint to a cell: its function is read from tensors and config, and it is measured like any cell.

Attention heads, activation and its sites, row norm and the bound of alpha are as options say, else as the config says, else as
published. Unknown facts of its training are null in the manifest; what the file claims of them is kept as claims.
"""

from __future__ import annotations

import torch
from pydantic import ValidationError

from batteries import __version__
from batteries.cell import weights_file
from batteries.cell.cell import Cell
from batteries.cell.manifest import DataSource, InputScale, TrainingFacts
from batteries.cell.spec import Activation, ActivationSites, CellSpec, Readout, RowNorm
from batteries.data.sources import Source, refuse_shown
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError, PolicyError
from batteries.io.canonical_json import fields_of
from batteries.packaging.foreign_cell import Adoptable, adoptable
from batteries.packaging.foreign_checkpoint import AnyCheckpoint
from batteries.packaging.measurable import refuse_unmeasurable
from batteries.packaging.package import Label, assembled
from batteries.packaging.shared_figures import SharedFigures

UNKNOWN = "unknown"


@neutral()
def adopt(
    path: AnyCheckpoint,
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
    shared: SharedFigures | None = None,
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
        key: Entry of the file that has the weights, such as ``banks.3`` of an array, which needs one; by default the first of
            the usual ones.
        size: Side of its training images, in pixels; by default the config's, or 64.
        width: Width D; required if neither cross-attention nor a config tells it.
        heads: Attention heads; by default the config's, or as published for the width.
        activation: Nonlinearity of encoder and decoder; by default the config's, or GELU.
        activation_sites: Layers with this activation; by default as the config says, or all.
        row_norm: Normalisation of the rows of M; by default the config's, or unit length.
        bounded_alpha: Limit of 20% on the change of a singular value by attention; by default True.
        readout: Way from M to the decoder; by default as config and tensors say, or by singular value decomposition.
        command: Command that repeats the adoption, for the manifest.
        shared: Figures of earlier adoptions, so that linear codes and untrained nulls are computed once per spec.

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
    blob = weights_file.write(found.arrays)
    try:
        figures = (shared or SharedFigures()).figures(found, source, input, where=label.name)
        return assembled(found.spec, blob, found.arrays, label, training, input=input, figures=figures)
    except ValidationError as error:  # a manifest holds finite figures only
        raise PolicyError(
            "non-finite figures",
            code="NON_FINITE",
            found=fields_of(error),
            where=path,
            remedy="Its weights are finite, but not its results on a probe: check the file and the input scale.",
        ) from error


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
        noise_types=source.facts.noise_types,
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
