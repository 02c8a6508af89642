"""Checkpoint of a training run: one safetensors file with model, optimisers and readings, replaced atomically at each save."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer

from batteries.errors import ConflictError, FormatError
from batteries.io import atomic_files, canonical_json

MAX_CHECKPOINT = 2**30
KEY = "batteries-run"


def write(path: Path, model: nn.Module, optimisers: Sequence[Optimizer], state: dict[str, Any]) -> None:
    """Save a run atomically.

    Args:
        path: Checkpoint file.
        model: Model whose parameters are saved.
        optimisers: Optimisers whose per-parameter tensors are saved.
        state: State of the run as JSON: identity, step, readings.

    Raises:
        StoreError: no space or no permission.
    """
    tensors = {f"model.{name}": parameter.detach() for name, parameter in model.named_parameters()}
    for first, optimiser in _numbered(optimisers):
        for index, entry in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{first + index}.{key}": torch.as_tensor(value) for key, value in entry.items()}
    atomic_files.replace(path, save({k: v.contiguous() for k, v in tensors.items()}, {KEY: json.dumps(state)}))


def read(path: Path, model: nn.Module, optimisers: Sequence[Optimizer], identity: str) -> dict[str, Any]:
    """Restore a saved run into a model and its optimisers; return the saved state.

    Raises:
        ConflictError: checkpoint of a run with another plan, other data or another probe.
        FormatError: not a checkpoint of this model.
    """
    data = atomic_files.read(path, limit=MAX_CHECKPOINT)
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        state: dict[str, Any] = json.loads(header["__metadata__"][KEY])
    except (SafetensorError, ValueError, KeyError) as error:
        raise FormatError("not a checkpoint", code="CHECKPOINT", found=error, where=path) from error
    if state["identity"] != identity:
        raise ConflictError(
            "checkpoint of another run, with a different plan, data or probe",
            code="RUN_CHANGED",
            expected=identity,
            found=state["identity"],
            where=path,
            remedy="Name another run folder, or remove the checkpoint to start afresh.",
        )
    _restore(model, optimisers, tensors)
    return state


def identity(plan: canonical_json.Document, data: canonical_json.Document, probe_digest: str) -> str:
    """Return the digest that identifies a run in its checkpoint."""
    return canonical_json.sha256(plan.to_bytes() + data.to_bytes() + probe_digest.encode())


def _numbered(optimisers: Sequence[Optimizer]) -> Iterator[tuple[int, Optimizer]]:
    """Yield each optimiser with the number of parameters before its own."""
    first = 0
    for optimiser in optimisers:
        yield first, optimiser
        first += sum(len(group["params"]) for group in optimiser.param_groups)


def _restore(model: nn.Module, optimisers: Sequence[Optimizer], tensors: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    entries: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimiser":
            index, _, key = rest.partition(".")
            entries.setdefault(int(index), {})[key] = tensor
    for first, optimiser in _numbered(optimisers):
        groups = optimiser.state_dict()["param_groups"]
        own = {index: entries[first + index] for group in groups for index in group["params"] if first + index in entries}
        optimiser.load_state_dict({"state": own, "param_groups": groups})
