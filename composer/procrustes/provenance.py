"""What a map was fitted on, by digest: a map says nothing of cells that have changed since, nor of other cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from batteries.errors import InputError, IntegrityError
from batteries.io import short_repr
from composer.vocabulary import Grid, TokenKind

PREFIX = b"batteries-values-1"


@dataclass(frozen=True)
class Pairing:
    """Both ends of a map, and the images on which their tokens were paired.

    Attributes:
        kind: Of tokens.
        grid: Rows and columns of the regions of an image; a finer cell's tokens were averaged over each.
        probe: SHA-256 of the images, as :func:`digest_of` has it.
        source: SHA-256 of what is mapped: of a cell's weights (``tensors`` in a lock), or of a frame's tokens.
        target: The same of what it is mapped to.
    """

    kind: TokenKind
    grid: Grid
    probe: str
    source: str
    target: str

    __repr__ = short_repr.fields

    def inverse(self) -> Pairing:
        """Of the way back."""
        return replace(self, source=self.target, target=self.source)

    def then(self, other: Pairing) -> Pairing:
        """Of one map after the other.

        Raises:
            InputError: the second does not begin where the first ends, or pairs other tokens or other images (``ENDS``).
        """
        for what, mine, theirs in (
            ("ends", self.target, other.source),
            ("kinds of token", self.kind, other.kind),
            ("regions", self.grid, other.grid),
            ("images", self.probe, other.probe),
        ):
            if mine != theirs:
                raise InputError(
                    f"two maps of different {what} do not make one",
                    code="ENDS",
                    expected=mine,
                    found=theirs,
                    remedy="Fit both on the same tokens of the same images, the second from where the first leads.",
                )
        return replace(self, target=other.target)

    def check(self, *, source: str | None = None, target: str | None = None, where: object = None) -> None:
        """Refuse ends that are not those of the fit.

        Args:
            source: Digest of what is about to be mapped; left out, not compared.
            target: Digest of what it is to be mapped to.
            where: The cell's name, for the message.

        Raises:
            IntegrityError: another one (``END_CHANGED``).
        """
        for end, fitted, found in (("source", self.source, source), ("target", self.target, target)):
            if found is not None and found != fitted:
                raise IntegrityError(
                    f"a map that was fitted on another {end}",
                    code="END_CHANGED",
                    expected=fitted,
                    found=found,
                    where=where,
                    remedy="Pull the version that the map was fitted on, or align again.",
                )


def digest_of(values: Tensor) -> str:
    """SHA-256 of a tensor's shape and of its values as float64."""
    held = values.detach().to("cpu", torch.float64).contiguous().numpy().astype("<f8", copy=False)
    found = sha256(b"\0".join([PREFIX, str(list(held.shape)).encode(), b""]))
    found.update(held.reshape(-1).view(np.uint8).data)
    return found.hexdigest()
