"""Provenance of a map by digest: it is valid only for the weights and images on which it was fitted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from batteries import short_repr
from batteries.errors import InputError, IntegrityError
from composer.vocabulary import Grid, TokenKind

PREFIX = b"batteries-values-1"


@dataclass(frozen=True)
class Pairing:
    """Both ends of a map, and the images on which their tokens were paired.

    Attributes:
        kind: Kind of tokens.
        grid: Rows and columns of the regions of an image; a finer cell's tokens were averaged over each.
        probe: SHA-256 of the images, see :func:`digest_of`.
        source: SHA-256 of the source: a cell's weights (``tensors`` in a lock), or a frame's tokens.
        target: SHA-256 of the target: a cell's weights (``tensors`` in a lock), or a frame's tokens.
    """

    kind: TokenKind
    grid: Grid
    probe: str
    source: str
    target: str

    __repr__ = short_repr.fields

    def inverse(self) -> Pairing:
        """Return the pairing of the inverse map."""
        return replace(self, source=self.target, target=self.source)

    def then(self, other: Pairing) -> Pairing:
        """Return the pairing of this map followed by another.

        Raises:
            InputError: an other map that does not begin at this one's target, or was fitted on other tokens or images
                (``ENDS``).
        """
        for what, mine, theirs in (
            ("ends", self.target, other.source),
            ("kinds of token", self.kind, other.kind),
            ("regions", self.grid, other.grid),
            ("images", self.probe, other.probe),
        ):
            if mine != theirs:
                raise InputError(
                    f"cannot chain maps with different {what}",
                    code="ENDS",
                    expected=mine,
                    found=theirs,
                    remedy="Fit both on the same tokens of the same images, the second from the target of the first.",
                )
        return replace(self, target=other.target)

    def check(self, *, source: str | None = None, target: str | None = None, where: object = None) -> None:
        """Check that the ends are those of the fit.

        Args:
            source: Digest of the source; not checked if None.
            target: Digest of the target; not checked if None.
            where: Name of the cell, for error messages.

        Raises:
            IntegrityError: a source or target other than that of the fit (``END_CHANGED``).
        """
        for end, fitted, found in (("source", self.source, source), ("target", self.target, target)):
            if found is not None and found != fitted:
                raise IntegrityError(
                    f"map fitted on another {end}",
                    code="END_CHANGED",
                    expected=fitted,
                    found=found,
                    where=where,
                    remedy="Pull the version on which the map was fitted, or align again.",
                )


def digest_of(values: Tensor) -> str:
    """Return the SHA-256 of a tensor's shape and of its values as float64."""
    held = values.detach().to("cpu", torch.float64).contiguous().numpy().astype("<f8", copy=False)
    found = sha256(b"\0".join([PREFIX, str(list(held.shape)).encode(), b""]))
    found.update(held.reshape(-1).view(np.uint8).data)
    return found.hexdigest()
