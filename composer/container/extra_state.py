"""The part of a module's state dict that is a document, as a tensor: what saves, copies or averages a state takes tensors only.

A document is the bytes of its canonical JSON, one number each. They are float32 and not uint8, for most loops that average a
state multiply all of it in place, which torch refuses for integers; the mean of equal bytes is these bytes once it is rounded.
What was averaged over different documents, cut or cast too far is no JSON, or another document than the module's own, and is
refused: every module compares what it reads with what it is. docs/decisions/0018-state.md has the reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from batteries.errors import FormatError
from batteries.io import canonical_json

MAX_DOCUMENT = 64 * 2**20  # bytes; the digests of a cell take about 300


def encoded(document: Mapping[str, Any], device: torch.device | str = "cpu") -> Tensor:
    """Document as float32 (bytes,), on the device of the module's other tensors.

    >>> encoded({"a": 1}).tolist()
    [123.0, 34.0, 97.0, 34.0, 58.0, 49.0, 125.0, 10.0]
    """
    return torch.tensor(list(canonical_json.dump(document)), dtype=torch.float32, device=device)


def decoded(state: object, *, where: str) -> dict[str, Any]:
    """Document of a tensor; a dictionary, which older states hold in its place, is one itself, and anything else is empty.

    Args:
        state: What a state dict has.
        where: The module, for the message.

    Raises:
        FormatError: a tensor whose numbers are not the bytes of a JSON object (``STATE``).
    """
    if not isinstance(state, Tensor):
        return state if isinstance(state, dict) else {}
    if state.is_complex() or state.is_meta:
        raise _damaged(f"{state.dtype} on {state.device}", where)
    numbers = state.detach().flatten().to("cpu", torch.float64).round()
    if not bool(((numbers >= 0) & (numbers <= 255)).all()):
        raise _damaged("numbers that are no bytes", where)
    try:
        document = canonical_json.load(bytes(numbers.to(torch.uint8).tolist()), where=where, limit=MAX_DOCUMENT)
    except FormatError as error:
        raise _damaged(f"{len(numbers)} numbers: {error.what}", where) from error
    if not isinstance(document, dict):
        raise _damaged(f"a JSON {type(document).__name__}", where)
    return document


def is_absent(state: object) -> bool:
    """Whether torch says that a state dict has no such entry, as one shard of a state has not: by an object of this class.

    torch.distributed.checkpoint.state_dict hands it to ``set_extra_state`` where a full state dict is loaded without the entry.
    """
    return type(state).__name__ == "_EXTRA_STATE"


def _damaged(found: str, where: str) -> FormatError:
    return FormatError(
        "extra state that is damaged",
        code="STATE",
        expected="a tensor of the bytes of a JSON object",
        found=found,
        where=where,
        remedy="Save the state again. States of hosts around different cells cannot be averaged.",
    )
