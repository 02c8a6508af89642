"""JSON documents in a module's state dict, encoded as tensors: code that saves, copies or averages states takes tensors only.

Each byte of a document's canonical JSON is one float32 number. It is not uint8, because most loops that average states multiply
all entries in place, which torch refuses for integers; the rounded mean of equal bytes is the byte itself. A tensor that was
averaged over different documents, truncated or cast too far decodes to no JSON, or to a document other than the module's, and
is refused, since every module compares the decoded document with its own. See docs/decisions/0018-state.md.
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
    """Encode a document as float32 (bytes,), on the device of the module's other tensors.

    >>> encoded({"a": 1}).tolist()
    [123.0, 34.0, 97.0, 34.0, 58.0, 49.0, 125.0, 10.0]
    """
    return torch.tensor(list(canonical_json.dump(document)), dtype=torch.float32, device=device)


def decoded(state: object, *, where: str) -> dict[str, Any]:
    """Decode a document from a tensor; return a dictionary, as in older states, unchanged, and {} for any other value.

    Args:
        state: Entry of a state dict.
        where: Name of the module, for error messages.

    Raises:
        FormatError: a tensor whose numbers are not the bytes of a JSON object (``STATE``).
    """
    if not isinstance(state, Tensor):
        return state if isinstance(state, dict) else {}
    if state.is_complex() or state.is_meta:
        raise _damaged(f"{state.dtype} on {state.device}", where)
    numbers = state.detach().flatten().to("cpu", torch.float64).round()
    if not bool(((numbers >= 0) & (numbers <= 255)).all()):
        raise _damaged("numbers that are not bytes", where)
    try:
        document = canonical_json.load(bytes(numbers.to(torch.uint8).tolist()), where=where, limit=MAX_DOCUMENT)
    except FormatError as error:
        raise _damaged(f"{len(numbers)} numbers: {error.what}", where) from error
    if not isinstance(document, dict):
        raise _damaged(f"a JSON {type(document).__name__}", where)
    return document


def is_absent(state: object) -> bool:
    """Return whether a state is torch's placeholder for an entry that a state dict lacks.

    torch.distributed.checkpoint.state_dict passes it to ``set_extra_state`` if a full state dict lacks the entry.
    """
    return type(state).__name__ == "_EXTRA_STATE"


def _damaged(found: str, where: str) -> FormatError:
    return FormatError(
        "damaged extra state",
        code="STATE",
        expected="a tensor of the bytes of a JSON object",
        found=found,
        where=where,
        remedy="Save the state again. States of hosts around different cells cannot be averaged.",
    )
