"""Config of a public checkpoint, read as data: what tensors cannot tell of its function, and what it claims of its training.

Keys and meanings are those of the public trainers (docs/decisions/0035-foreign-checkpoints.md): ``activation`` is that of
``enc_in`` alone, the row norm ``layernorm`` has the unbiased variance, and ``scale`` the largest absolute value of a row. A
config with the field names of :class:`batteries.CellSpec` has this package's meanings.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from batteries import short_repr
from batteries.cell.manifest import Claimed
from batteries.cell.spec import Activation, CellSpec, Readout, RowNorm
from batteries.errors import FormatError, InputError
from batteries.packaging.final_report import LONGEST, count_in, number_in
from batteries.text import unicode

CONFIGS = ("config", "cfg", "hyper_parameters")  # entries of a file, in the order in which they are read
NESTED = ("model_kwargs", "battery_kwargs", "model_config", "spec")  # tables inside a config that describe the model
COUNTS = {  # counts of the spec, and the keys they have in configs
    "V": ("V", "matrix_v"),
    "D": ("D",),
    "patch_size": ("patch_size", "ps"),
    "hidden": ("hidden",),
    "depth": ("depth",),
    "cross_layers": ("n_cross_layers", "n_cross", "cross_layers"),
    "smooth_width": ("smooth_mid", "smooth_width"),
    "channels": ("channels", "in_channels"),
    "heads": ("n_heads", "num_heads", "heads"),
}
SIZE = ("img_size", "image_size")
EXACT: dict[str, tuple[Any, ...]] = {  # settings that this package has one value of, with other names for it
    "model_type": ("v1", "patchsvae", "PatchSVAE"),
    "solver": ("default",),
    "svd_method": ("auto", "gram_eigh", "torch"),
    "svd_compute_dtype": ("fp64",),
    "max_alpha": (0.2,),
    "boundary_smooth": (True,),
}
SVD_MODES = ("default", "fp64")
ROW_NORMS: dict[str, RowNorm] = {
    "sphere": "sphere",
    "none": "none",
    "layernorm": "layernorm_unbiased",
    "layernorm_unbiased": "layernorm_unbiased",
    "scale": "row_max",
    "row_max": "row_max",
}
SITES = ("enc_in", "enc_block_inner", "dec_in", "dec_block_inner", "boundary_smooth")
SWISH = {"swish": "silu"}
OWN = {"smooth_width", "cross_layers", "bounded_alpha"}  # fields of CellSpec that no public trainer has

UNDERSTOOD = {
    *(name for names in COUNTS.values() for name in names),
    *EXACT,
    *(
        "activation",
        "activations",
        "activation_sites",
        "row_norm",
        "bounded_alpha",
        "alpha_init",
        "readout",
        "linear_readout",
        "svd_mode",
    ),
}
OF_THE_FUNCTION = re.compile(r"activ|row_?norm|norm_(mode|type)|heads|readout|svd|alpha|attn|attention", re.IGNORECASE)

READOUT_TENSORS = ("readout.", "narrow.", "narrow.norm.")  # starts of names
TENSORS_OF: dict[Readout, tuple[bool, ...]] = {  # which of them a read-out has; the first of those alike is the usual one
    "svd": (False, False, False),
    "none": (False, False, False),
    "linear": (True, False, False),
    "narrow": (False, True, False),
    "narrow_norm": (False, True, True),
    "narrow_sphere": (False, True, True),
}
UNTOLD = ("narrow_norm", "narrow_sphere")  # alike in tensors, and neither the usual one

REMEDY = "If the config is wrong, save the state dict without it, and give what tensors cannot tell as options."


@dataclass(frozen=True)
class Settings:
    """Settings and claims of a config.

    Attributes:
        counts: Counts of the spec by field, those that tensors tell among them.
        choices: Other fields of the spec.
        size: Side of the training images in pixels, if it says.
        readout: Read-out between M and the decoder, if it says.
        claimed: Claims about the training; None if it has none.
    """

    counts: Mapping[str, int]
    choices: Mapping[str, Any]
    size: int | None
    readout: Readout | None
    claimed: Claimed | None

    __repr__ = short_repr.fields


def read(beside: Mapping[str, Any], where: object) -> Settings:
    """Read the config among the entries beside the weights.

    Args:
        beside: Entries of the file, as data.
        where: Name of the file in messages.

    Raises:
        FormatError: values of another type, or keys that contradict each other (``CONFIG``).
        InputError: a function that no spec of this package has, or a setting of the function that is unknown (``FUNCTION``).
    """
    config = config_of(beside)
    counts = {field: count for field, names in COUNTS.items() if (count := _count(config, names, where)) is not None}
    _refuse_other_functions(config, where)
    choices = _own_choices(config) if config.keys() >= OWN else _public_choices(config, where)
    return Settings(counts, choices, _count(config, SIZE, where), _readout(config, where), _claimed(beside, config))


def config_of(beside: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a file, with the tables inside it that describe the model, without empty values."""
    config: dict[Any, Any] = next((beside[name] for name in CONFIGS if isinstance(beside.get(name), dict)), {})
    tables = [config, *(config[name] for name in NESTED if isinstance(config.get(name), dict))]
    return {name: value for table in tables for name, value in table.items() if isinstance(name, str) and value is not None}


def tells_function(table: Mapping[str, Any]) -> bool:
    """Return True if a table has settings of a cell's function, understood or not."""
    return any(name in UNDERSTOOD or name in NESTED or OF_THE_FUNCTION.search(name) for name in table)


def _count(config: Mapping[str, Any], names: tuple[str, ...], where: object) -> int | None:
    """Return the count under one of several keys, which must not contradict each other."""
    said = {name: config[name] for name in names if name in config}
    wrong = [f"{name} {value!r}"[:100] for name, value in said.items() if type(value) is not int or value < 0]
    if wrong or len(set(said.values())) > 1:
        found = ", ".join(wrong or (f"{name} {value}" for name, value in said.items()))
        raise _fault("contradictory or invalid config", "one count", found, where)
    return next(iter(said.values()), None)


def _refuse_other_functions(config: Mapping[str, Any], where: object) -> None:
    for name, values in EXACT.items():
        if name in config and config[name] not in values:
            raise _other(f"{name} {config[name]!r}"[:100], " | ".join(map(str, values)), where)
    unknown = [name for name in config if OF_THE_FUNCTION.search(name) and name not in UNDERSTOOD | EXACT.keys()]
    if unknown:
        raise _other(", ".join(sorted(unknown)), "settings of the public trainers", where, "unknown setting of the function")


def _own_choices(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the choices of a config with this package's field names, which the spec itself checks."""
    return {name: config[name] for name in ("activation", "activation_sites", "row_norm", "bounded_alpha") if name in config}


def _public_choices(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    choices: dict[str, Any] = {}
    if "row_norm" in config:
        if not isinstance(config["row_norm"], str) or config["row_norm"] not in ROW_NORMS:
            raise _other(f"row_norm {config['row_norm']!r}"[:100], " | ".join(ROW_NORMS), where)
        choices["row_norm"] = ROW_NORMS[config["row_norm"]]
    if "activation" in config or "activations" in config:
        choices |= _activation(config, where)
    return choices


def _activation(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """Return activation and sites: ``activation`` is that of enc_in, ``activations`` a table by site, and GELU the rest."""
    table = config.get("activations", {})
    if not isinstance(table, dict) or not table.keys() <= set(SITES):
        raise _other(f"activations {table!r}"[:200], f"a table of {', '.join(SITES)}", where)
    sites: dict[str, Any] = dict.fromkeys(SITES, "gelu") | {"enc_in": config.get("activation", "gelu")} | table
    named = {site: SWISH.get(str(name), str(name)) for site, name in sites.items()}
    unknown = [f"{name} of {site}" for site, name in named.items() if name not in get_args(Activation)]
    if unknown:
        raise _other(", ".join(unknown)[:200], " | ".join(get_args(Activation)), where, "unsupported activation")
    first, *others, smoothing = named.values()
    if smoothing != "gelu" or set(others) not in ({first}, {"gelu"}):
        found = ", ".join(f"{name} of {site}" for site, name in named.items())
        expected = "one activation in encoder and decoder, or in enc_in alone, and GELU in boundary_smooth"
        raise _other(found, expected, where, "unsupported activations")
    return {"activation": first, "activation_sites": "all" if set(others) == {first} else "enc_in"}


def _readout(config: Mapping[str, Any], where: object) -> Readout | None:
    """Return the read-out: ``linear_readout`` without ``match_params`` is none; ``svd_mode`` is another word of it."""
    linear, said, mode = config.get("linear_readout"), config.get("readout"), config.get("svd_mode")
    if linear is True:
        return "none" if config.get("match_params") is False else "linear"
    if said is not None and said not in get_args(Readout):
        raise _other(f"readout {said!r}"[:100], " | ".join(get_args(Readout)), where)
    for other in get_args(Readout):
        if said == other != "svd":
            return other
    if mode is not None and mode not in SVD_MODES:
        raise _other(f"svd_mode {mode!r}"[:100], " | ".join(SVD_MODES), where)
    return "svd" if config.keys() & {"linear_readout", "readout", "svd_mode"} else None


def readout_of(settings: Settings, names: Collection[str], said: Readout | None, where: object) -> Readout:
    """Return the read-out that the user, the config or the tensors' names tell, in this order.

    Raises:
        InputError: an option that contradicts the tensors, or tensors of two read-outs and neither (``READOUT``).
        FormatError: a config that contradicts them (``CONFIG``).
    """
    has = tuple(any(name.startswith(part) for name in names) for part in READOUT_TENSORS)
    told = [readout for readout, parts in TENSORS_OF.items() if parts == has]
    readout = said or settings.readout or next(iter(told), "svd")
    if readout not in told:
        parts = [part for part, present in zip(READOUT_TENSORS, has, strict=True) if present]
        expected = " | ".join(told) or "tensors of one read-out"
        tensors = f"with {', '.join(f'{part}*' for part in parts)}" if parts else "without readout.* or narrow.*"
        found = f"readout {readout}, tensors {tensors}"
        if said:
            raise InputError("option contradicts the tensors", code="READOUT", expected=expected, found=found, where=where)
        raise _fault("config contradicts the tensors", expected, found, where)
    if readout in UNTOLD and not (said or settings.readout):
        found, remedy = "no config that tells which", "Give it: readout=NAME, or --readout NAME."
        raise InputError("unknown readout", code="READOUT", expected=" or ".join(told), found=found, where=where, remedy=remedy)
    return readout


def _claimed(beside: Mapping[str, Any], config: Mapping[str, Any]) -> Claimed | None:
    """Return the claims of a file, each where it has the type of one."""
    dataset = config.get("dataset")
    errors = [number_in(beside.get(name)) for name in ("test_mse", "val_mse")]
    claimed = Claimed(
        epoch=count_in(beside.get("epoch")),
        test_mse=next((error for error in errors if error is not None), None),
        dataset=unicode(dataset)[:LONGEST] if isinstance(dataset, str) else None,
        rate=number_in(config.get("lr")),
    )
    return None if claimed == Claimed() else claimed


def refuse_contradictions(settings: Settings, spec: CellSpec, said: Mapping[str, Any], where: object) -> None:
    """Refuse a config that contradicts the tensors.

    Args:
        settings: Settings of the config.
        spec: Spec that the tensors tell.
        said: Options of the user, which win over the config.
        where: Name of the file in messages.

    Raises:
        FormatError: other counts (``CONFIG``), all of them listed.
    """
    wrong = {field: count for field, count in settings.counts.items() if field not in said and getattr(spec, field) != count}
    if wrong:
        expected = ", ".join(f"{field} {getattr(spec, field)}" for field in wrong)
        raise _fault("config contradicts the tensors", expected, ", ".join(f"{f} {n}" for f, n in wrong.items()), where)


def _fault(what: str, expected: str, found: str, where: object) -> FormatError:
    return FormatError(what, code="CONFIG", expected=expected, found=found, where=where, remedy=REMEDY)


def _other(found: str, expected: str, where: object, what: str = "unsupported function") -> InputError:
    return InputError(what, code="FUNCTION", expected=expected, found=found, where=where, remedy=REMEDY)
