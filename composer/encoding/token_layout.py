"""Tokens of a group of images as arrays, in one order in memory and in a part of an unfinished file.

Legend: B images of a group, N patches of an image, V rows, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from batteries.images.framing import Size
from composer.container.container import Container
from composer.encoding.record import EncodedImage, Token
from composer.vocabulary import Grid

FLOAT = np.dtype("<f4")


@dataclass(frozen=True)
class TokenArray:
    """One kind of token of one cell, for every image of a group.

    Attributes:
        cell: Name of the cell.
        token: Kind.
        grid: Rows and columns of patches.
        shape: Shape of a patch's token: (D,), or (V, D) for M.
    """

    cell: str
    token: Token
    grid: Grid
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """Numbers of one image."""
        return math.prod(self.grid) * math.prod(self.shape)


Layout = tuple[TokenArray, ...]


def layout_of(container: Container, tokens: Sequence[Token], sides: Size) -> Layout:
    """Return the arrays of images of such sides: by cell, then by token."""
    found = []
    for name in container.names:
        spec = container.spec(name)
        shapes: dict[Token, tuple[int, ...]] = {"omega": (spec.D,), "S": (spec.D,), "M": (spec.V, spec.D)}
        found += [TokenArray(name, token, spec.grid(*sides), shapes[token]) for token in tokens]
    return tuple(found)


def numbers_of(layout: Layout) -> int:
    """Return the numbers of one image in all arrays."""
    return sum(array.numbers for array in layout)


@dataclass(frozen=True)
class Piece:
    """A finished group: its images, and where its tokens are in its part.

    Attributes:
        key: Name of the part.
        first: Place of the first image.
        images: Images of the group.
        layout: Arrays, one after the other.
    """

    key: str
    first: int
    images: tuple[EncodedImage, ...]
    layout: Layout

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return FLOAT.itemsize * len(self.images) * numbers_of(self.layout)

    def array(self, data: memoryview, cell: str, token: Token) -> np.ndarray:
        """Return one array (B, N, ...) of the part's bytes, as a view."""
        start = 0
        for row in self.layout:
            count = len(self.images) * row.numbers
            if (row.cell, row.token) == (cell, token):
                flat = np.frombuffer(data, FLOAT, count, start)
                return flat.reshape(len(self.images), math.prod(row.grid), *row.shape)
            start += FLOAT.itemsize * count
        raise AssertionError(f"no {token} of {cell} in the layout")

    def grid(self, cell: str) -> Grid:
        """Return rows and columns of a cell's patches."""
        return next(row.grid for row in self.layout if row.cell == cell)

    def keys(self, cell: str) -> dict[str, np.ndarray]:
        """Return image, row and column of every patch of a cell, (B N,) int32, in the order of the arrays."""
        rows, columns = self.grid(cell)
        shape = len(self.images), rows, columns
        image = np.arange(self.first, self.first + len(self.images), dtype="<i4")[:, None, None]
        found = {"image": image, "row": np.arange(rows, dtype="<i4")[:, None], "column": np.arange(columns, dtype="<i4")}
        return {name: np.ascontiguousarray(np.broadcast_to(values, shape)).reshape(-1) for name, values in found.items()}
