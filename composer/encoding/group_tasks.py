"""Tokens of a group of images, in this process or as a task of a worker, which unpacks a container once for all its groups."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from batteries.engine.torch_settings import neutral
from batteries.io.canonical_json import sha256
from composer.container.container import Container
from composer.encoding.record import Token
from composer.encoding.token_layout import FLOAT


@dataclass(frozen=True)
class PackedContainer:
    """A container as bytes; two of the same digest are equal.

    Attributes:
        digest: SHA-256 of the bytes.
        data: Pickle of the container.
    """

    digest: str
    data: bytes = field(compare=False, repr=False)

    @classmethod
    def of(cls, container: Container) -> PackedContainer:
        """Pack a container."""
        data = pickle.dumps(container)
        return cls(sha256(data), data)


@neutral()
@torch.no_grad()
def group_tokens(packed: PackedContainer, tokens: Sequence[Token], batch: np.ndarray) -> bytes:
    """Return the tokens of images (B, C, height, width), in the order of the layout."""
    return b"".join(arrays(_unpacked(packed), torch.from_numpy(batch), tokens))


def arrays(container: Container, batch: Tensor, tokens: Sequence[Token]) -> Iterator[memoryview]:
    """Yield the tokens of images (B, C, height, width), in the order of the layout."""
    out = container(batch.to(container.device), tokens)
    for name in container.names:
        for token in tokens:
            values = getattr(out[name], token).cpu().contiguous().numpy()
            yield memoryview(values.astype(FLOAT, copy=False)).cast("B")


@lru_cache(1)
def _unpacked(packed: PackedContainer) -> Container:
    container: Container = pickle.loads(packed.data)  # noqa: S301 - packed by this run's driver
    return container
