"""Checkpoint of a training run: one safetensors file with model, optimisers and readings, replaced atomically at each save.

A tensor of an optimiser's state for a parameter is stored as it is; other values are JSON beside it, with the tensors in them
named. The hyper-parameters of an optimiser are those of its plan.

The file carries its own SHA-256 in its metadata, computed with zeros in its place, and is compared with it before anything in
it is read: damage to a moment of an optimiser would otherwise be trained on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer

from batteries.errors import ConflictError, FormatError, IntegrityError
from batteries.io import atomic_files, canonical_json
from batteries.io.texts import placeholders
from batteries.io.texts.hostile_json import load_loose

MAX_CHECKPOINT = 2**30
MAX_HEADER = 2**26  # bytes of the header, with the readings of a run
KEY = "batteries-run"
VALUES = "batteries-optimiser"  # values of an optimiser's state that are no tensors; absent where all are
DIGEST = "batteries-digest"
NO_DIGEST = "0" * 64
DIGEST_FIELD = re.compile(rb'"batteries-digest":"([0-9a-f]{64})"')  # JSON inside of other metadata has escaped quotes
REMEDY = "Remove the file to start the run afresh."


def write(path: Path, model: nn.Module, optimisers: Sequence[Optimizer], state: dict[str, Any]) -> None:
    """Save a run atomically.

    Args:
        path: Checkpoint file.
        model: Model whose parameters are saved.
        optimisers: Optimisers whose state is saved: tensors, numbers, words and None, and lists, tuples and dicts of these.
        state: State of the run as JSON: identity, step, readings.

    Raises:
        FormatError: sparse, quantised, nested or complex tensors, or tensors without numbers (``ST_LAYOUT``).
        StoreError: no space or no permission.
    """
    tensors = {f"model.{name}": parameter.detach() for name, parameter in model.named_parameters()}
    values: dict[str, Any] = {}
    for first, optimiser in _numbered(optimisers):
        for index, entry in optimiser.state_dict()["state"].items():
            for key, value in entry.items():
                name = f"optimiser.{first + index}.{key}"
                form = _packed(value, name, tensors)
                if not isinstance(value, Tensor):
                    values[name] = form
    metadata = {DIGEST: NO_DIGEST, KEY: json.dumps(state)} | ({VALUES: json.dumps(values)} if values else {})
    try:
        data = save({name: _dense(tensor) for name, tensor in tensors.items()}, metadata)
    except (SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise FormatError(
            "run with tensors that a checkpoint cannot hold", code="ST_LAYOUT", found=error, where=path
        ) from error
    atomic_files.replace(path, _with_digest(data))


def read(path: Path, model: nn.Module, optimisers: Sequence[Optimizer], identity: str) -> dict[str, Any]:
    """Restore a saved run into a model and its optimisers; return the saved state.

    Raises:
        ConflictError: checkpoint of a run with another plan, other data or another probe.
        IntegrityError: bytes that differ from the file's own digest (``DIGEST_MISMATCH``).
        FormatError: not a checkpoint, or not of this model (``CHECKPOINT``), or a stand-in (``LFS_POINTER`` and others).
    """
    data = atomic_files.read(path, limit=MAX_CHECKPOINT)
    _verify(data, path)
    try:
        tensors = load(data)
        metadata = _json(_header(data), path)["__metadata__"]
        state: dict[str, Any] = _json(metadata[KEY].encode(), path)
        values: dict[str, Any] = _json(metadata.get(VALUES, "{}").encode(), path)
        found = state["identity"]
    except (FormatError, SafetensorError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise _no_checkpoint(path, error) from error
    if found != identity:
        raise ConflictError(
            "checkpoint of another run, with a different plan, data or probe",
            code="RUN_CHANGED",
            expected=identity,
            found=found,
            where=path,
            remedy="Name another run folder, or remove the checkpoint to start afresh.",
        )
    try:
        _restore(model, optimisers, tensors, values)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        raise FormatError("not a checkpoint of this model", code="CHECKPOINT", found=error, where=path) from error
    return state


def no_state(where: object, found: str) -> FormatError:
    """Return the error of a state that is none of a run of its plan."""
    return FormatError("not a checkpoint of this run", code="CHECKPOINT", found=found, where=where)


def identity(plan: canonical_json.Document, data: canonical_json.Document, probe_digest: str) -> str:
    """Return the digest that identifies a run in its checkpoint."""
    return canonical_json.sha256(plan.to_bytes() + data.to_bytes() + probe_digest.encode())


def _dense(tensor: Tensor) -> Tensor:
    """Return the numbers of a tensor one after the other, with the flags of a view applied."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.is_meta or tensor.is_complex():
        raise ValueError(f"a tensor of {tensor.dtype}, {tensor.layout}, on {tensor.device}")
    return tensor.resolve_neg().contiguous()


def _header(data: bytes) -> bytes:
    return data[8 : 8 + int.from_bytes(data[:8], "little")]


def _json(data: bytes, path: Path) -> Any:
    return load_loose(data, where=path, limit=MAX_HEADER, constant=float)


def _with_digest(data: bytes) -> bytes:
    """Put the digest of a file, which has zeros for it, into the file."""
    place = DIGEST_FIELD.search(_header(data))
    assert place is not None, "the metadata have a digest"
    return _digest_replaced(data, place, canonical_json.sha256(data))


def _digest_replaced(data: bytes, place: re.Match[bytes], digest: str) -> bytes:
    return data[: 8 + place.start(1)] + digest.encode() + data[8 + place.end(1) :]


def _verify(data: bytes, path: Path) -> None:
    """Compare a file with the digest that it carries."""
    place = DIGEST_FIELD.search(_header(data))
    if place is None:
        placeholders.refuse_unreadable(data, path)
        raise _no_checkpoint(path, "no digest in its header")
    expected = place[1].decode()
    found = canonical_json.sha256(_digest_replaced(data, place, NO_DIGEST))
    if found != expected:
        raise IntegrityError(
            "digest mismatch", code="DIGEST_MISMATCH", expected=expected, found=found, where=path, remedy=REMEDY
        )


def _no_checkpoint(path: Path, found: object) -> FormatError:
    return FormatError("not a checkpoint", code="CHECKPOINT", found=found, where=path, remedy=REMEDY)


def _numbered(optimisers: Sequence[Optimizer]) -> Iterator[tuple[int, Optimizer]]:
    """Yield each optimiser with the number of parameters before its own."""
    first = 0
    for optimiser in optimisers:
        yield first, optimiser
        first += sum(len(group["params"]) for group in optimiser.param_groups)


def _packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return a value as JSON, with its tensors put under names that begin with the given one."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach()
        return {"tensor": name}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_packed(part, f"{name}.{place}", tensors) for place, part in enumerate(value)]}
    if isinstance(value, dict):
        return {"dict": [[key, _packed(part, f"{name}.{place}", tensors)] for place, (key, part) in enumerate(value.items())]}
    assert value is None or isinstance(value, bool | int | float | str), f"{name} is a {type(value).__name__}"
    return value


def _unpacked(form: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the value of a form that :func:`_packed` made; its tensors are taken out of those given."""
    if not isinstance(form, dict):
        return form
    ((kind, inner),) = form.items()
    match kind:
        case "tensor":
            return tensors.pop(inner)
        case "dict":
            return {key: _unpacked(part, tensors) for key, part in inner}
        case _:
            parts = [_unpacked(part, tensors) for part in inner]
            return parts if kind == "list" else tuple(parts)


def _restore(model: nn.Module, optimisers: Sequence[Optimizer], tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            saved = tensors[f"model.{name}"]
            if saved.dtype != parameter.dtype:
                raise TypeError(f"{name} is {saved.dtype}, not {parameter.dtype}")
            _refuse_shape(name, saved, parameter.shape)
            parameter.copy_(saved)
    found: dict[str, Any] = {name: _unpacked(form, tensors) for name, form in values.items()}
    entries: dict[int, dict[str, Any]] = {}
    for name, value in (tensors | found).items():
        kind, _, rest = name.partition(".")
        if kind == "optimiser":
            index, _, key = rest.partition(".")
            entries.setdefault(int(index), {})[key] = value
    for first, optimiser in _numbered(optimisers):
        groups = optimiser.state_dict()["param_groups"]
        own = {index: entries[first + index] for group in groups for index in group["params"] if first + index in entries}
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        whole = torch.Size([sum(parameter.numel() for parameter in parameters)])  # that of all parameters, flat
        for index, entry in own.items():
            for key, value in entry.items():
                if isinstance(value, Tensor):
                    _refuse_shape(f"optimiser.{index}.{key}", value, torch.Size(), parameters[index].shape, whole)
        optimiser.load_state_dict({"state": own, "param_groups": groups})


def _refuse_shape(name: str, saved: Tensor, *wanted: torch.Size) -> None:
    if saved.shape not in wanted:
        raise ValueError(f"{name} is {tuple(saved.shape)}, not {' or '.join(str(tuple(shape)) for shape in wanted)}")
