"""Weights of a checkpoint: which of its entries, under which prefix, and whether they are of another architecture."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from torch import Tensor

from batteries.cell.weights_file import MAX_CELL, MAX_TENSORS
from batteries.errors import FormatError, InputError
from batteries.packaging.pickles.inert_pickle import MAX_NAME
from batteries.packaging.pickles.pickled_tensors import Stored

NAMED = ("model_state_dict", "model_state", "state_dict", "model")  # in the order in which they are taken
AVERAGED = re.compile(r"ema(_.*)?|.*_ema")
LINEAR = ("enc_in.weight", "enc_out.weight", "dec_in.weight", "dec_out.weight")  # tensors of every PatchSVAE
OURS = re.compile(r"(enc_in|enc_out|enc_blocks|dec_in|dec_out|dec_blocks|cross_attn|boundary_smooth|readout|narrow)\b")

# architectures near PatchSVAE, by a tensor's name; docs/decisions/0035-foreign-checkpoints.md
RELATIVES = (
    (r"(.*\.)?banks\.\d+\..+", "an array of cells: save it as one safetensors file, or the state of one bank by itself"),
    (
        r"(.*\.)?decoder\.(mode_proc|fuse)\b.*",
        "PatchSVAE v2, whose decoder reads what its eigensolver reports beside the modes",
    ),
    (r"(.*\.)?battery\.(svae|enc|dec_in)\b.*", "a transformer around a cell: save the state of its battery by itself"),
    (r"(.*\.)?(codebook|code_proj\..*|atoms)", "a codebook model, whose rows are replaced by entries of a codebook"),
    (
        r"(.*\.)?(fc_)?(mu|mean|logvar|log_var|logsigma)(_head|_proj)?\.weight",
        "a variational autoencoder with a mean and a variance",
    ),
    (r"(.*\.)?(quant_conv|(encoder|decoder)\.(conv_in|conv_out))\..*", "a convolutional autoencoder"),
)

SETTINGS = {"config", "cfg", "hyper_parameters", "epoch", "test_mse", "val_mse"}  # entries that may be beside loose tensors

AnyTensor = Tensor | Stored
SAVE_STATE = "Name the entry with key=, or --key; or save the state dict alone, preferably as safetensors."


@dataclass(frozen=True, eq=False)
class State:
    """Weights chosen in a checkpoint.

    Attributes:
        key: Name of their entry; None for the file itself.
        tensors: Tensors by name, without a prefix.
        beside: Other entries of the file that have a textual name.
        lines: Choices made, a sentence each.
    """

    key: str | None
    tensors: dict[str, Tensor]
    beside: Mapping[str, Any]
    lines: tuple[str, ...]


def entries_of(loaded: Any) -> dict[str | None, dict[Any, Any]]:
    """Return the entries of a checkpoint that hold tensors by name, the usual ones first; None is the file itself."""
    if not isinstance(loaded, dict):
        return {}
    averaged = [key for key in loaded if isinstance(key, str) and AVERAGED.fullmatch(key)]
    named: dict[str | None, dict[Any, Any]] = {
        key: loaded[key] for key in (*NAMED, *averaged) if _holds_tensors(loaded.get(key))
    }
    return named | ({None: loaded} if _holds_tensors(loaded) else {})


def choose(loaded: Any, key: str | None, where: object) -> State:
    """Choose the weights of a checkpoint: the entry asked for, else the first named one, else the file itself.

    Args:
        loaded: Contents of the file.
        key: Name of an entry, or None.
        where: Name of the file in messages.

    Raises:
        InputError: no such entry with tensors (``KEY``).
        FormatError: no state dict (``STATE_DICT``), entries that are no tensors (``ST_TENSORS``), an architecture near
            PatchSVAE (``RELATIVE``), or more numbers than a cell may have (``TOO_LARGE``).
    """
    found = entries_of(loaded)
    if key is not None:
        found = {key: _asked(loaded, key, where)}
    if not found:
        raise _no_state(loaded, where)
    taken, state = next(iter(found.items()))
    others = [str(other) for other in found if other != taken and other is not None]
    lines = [f"weights of {taken}" + (f", not of {', '.join(others)}" if others else "")] if taken else []
    beside = {name: value for name, value in loaded.items() if isinstance(name, str) and name != taken}
    if taken is None:
        state = _without_settings(state)
    tensors, prefix_lines = _unprefixed(_checked(state, where), where)
    return State(taken, _made(tensors, where), beside, (*lines, *prefix_lines))


def _made(tensors: Mapping[str, AnyTensor], where: object) -> dict[str, Tensor]:
    """Return the tensors themselves, which may all be views of the same numbers, and are copied later."""
    whole: dict[str, Tensor] = {}
    numbers = 0
    for name, value in tensors.items():
        whole[name] = value.make() if isinstance(value, Stored) else value
        numbers += whole[name].numel() if isinstance(value, Stored) else 0
        if numbers > MAX_CELL // 4:
            found, expected = f"{numbers:,} or more", f"at most {MAX_CELL // 4:,} numbers together"
            raise FormatError("tensors too large for a cell", code="TOO_LARGE", expected=expected, found=found, where=where)
    return whole


def _asked(loaded: Any, key: str, where: object) -> dict[Any, Any]:
    held = loaded if isinstance(loaded, dict) else {}
    if not _holds_tensors(held.get(key)):
        expected = " | ".join(str(name) for name, value in held.items() if _holds_tensors(value)) or "a file with named entries"
        raise InputError("no such entry with tensors", code="KEY", expected=expected, found=key, where=where)
    state: dict[Any, Any] = held[key]
    return state


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(one, Tensor | Stored) and one.ndim for one in value.values())


def _without_settings(state: dict[Any, Any]) -> dict[Any, Any]:
    """Leave out the settings beside loose tensors, unless there is more that is no tensor."""
    others = {name for name, value in state.items() if not isinstance(value, Tensor | Stored)}
    return {name: value for name, value in state.items() if name not in others} if others <= SETTINGS else state


def _checked(state: dict[Any, Any], where: object) -> dict[str, AnyTensor]:
    if len(state) > MAX_TENSORS:
        raise FormatError("too many tensors", code="ST_TENSORS", expected=MAX_TENSORS, found=len(state), where=where)
    names = [str(name)[:MAX_NAME] for name in state if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME]
    names += [str(name)[:MAX_NAME] for name, value in state.items() if not isinstance(value, Tensor | Stored)]
    if names:
        found = ", ".join(sorted(set(names)))
        raise FormatError("state dict with entries other than tensors", code="ST_TENSORS", found=found, where=where)
    return state


def _unprefixed(tensors: dict[str, AnyTensor], where: object) -> tuple[dict[str, AnyTensor], list[str]]:
    """Take off the prefix that a wrapper adds to every name, and drop the wrapper's counters."""
    _refuse_relatives(tensors, where)
    prefixes = _prefixes(tensors, where)
    prefix, *others = prefixes
    rest = {name: tensor for name, tensor in tensors.items() if not any(name.startswith(other) for other in others if other)}
    taken = {name.removeprefix(prefix): tensor for name, tensor in rest.items() if name.startswith(prefix)}
    left = {name: tensor for name, tensor in rest.items() if not name.startswith(prefix)}
    stray = [name for name, tensor in left.items() if tensor.ndim]
    if stray:
        raise _mixed(prefix, stray, len(tensors), where)
    counters = [*left, *(name for name, tensor in taken.items() if prefix and not tensor.ndim)]
    lines = [f"prefix {prefix} taken off"] if prefix else []
    lines += [f"weights under {prefix or 'no prefix'}, not under {', '.join(others)}"] if others else []
    lines += [f"counters left out: {', '.join(sorted(counters))}"] if counters else []
    return {name: tensor for name, tensor in taken.items() if name not in counters}, lines


def _prefixes(tensors: Mapping[str, AnyTensor], where: object) -> list[str]:
    """Return the prefixes of all sets of weights, those of averages last; of a damaged set, what its names have in common."""
    marks = [name.removesuffix(LINEAR[0]) for name in tensors if name.endswith(LINEAR[0])]
    sets = [mark for mark in marks if (not mark or mark.endswith(".")) and all(mark + name in tensors for name in LINEAR)]
    if len(marks) > 1 and len(sets) < len(marks):
        mark = next(mark for mark in marks if mark and mark not in sets)
        raise _mixed(mark, [name for name in tensors if not name.startswith(mark)], len(tensors), where)
    if sets:
        return sorted(sets, key=lambda mark: "ema" in mark.lower() or "average" in mark.lower())
    return [_common([name for name, tensor in tensors.items() if tensor.ndim])]


def _common(names: list[str]) -> str:
    """Return what all names start with, in whole parts, up to the first part of a PatchSVAE."""
    parts = takewhile(lambda part: len(set(part)) == 1, zip(*(name.split(".") for name in names), strict=False))
    wrappers = list(takewhile(lambda part: not OURS.fullmatch(part), (part[0] for part in parts)))
    prefix = "".join(f"{part}." for part in wrappers)
    return prefix if any(OURS.match(name.removeprefix(prefix)) for name in names) else ""


def _refuse_relatives(tensors: Mapping[str, AnyTensor], where: object) -> None:
    for pattern, words in RELATIVES:
        named = [name for name in tensors if re.fullmatch(pattern, name)]
        if named:
            raise FormatError(
                f"not a cell: {words}", code="RELATIVE", expected="a PatchSVAE", found=", ".join(sorted(named)[:3]), where=where
            )


def _mixed(prefix: str, stray: list[str], count: int, where: object) -> FormatError:
    return FormatError(
        f"names with and without {prefix}",
        code="STATE_DICT",
        found=f"{len(stray)} of {count} without it: {', '.join(sorted(stray)[:5])}",
        where=where,
    )


def _no_state(loaded: Any, where: object) -> FormatError:
    if isinstance(loaded, dict):
        held = [str(name)[:MAX_NAME] for name, value in loaded.items() if _holds_tensors(value)]
        found = f"none of them{', but tensors under ' + ', '.join(held) if held else ''}"
    else:
        found = "a Tensor" if isinstance(loaded, Stored) else f"a {type(loaded).__name__}"
    return FormatError(
        "no state dict",
        code="STATE_DICT",
        expected=f"tensors by name, as the file itself or under one of {', '.join(NAMED)}, ema_...",
        found=found,
        where=where,
        remedy=SAVE_STATE,
    )
