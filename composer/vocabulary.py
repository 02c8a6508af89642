"""Words that all wings share: grids of patches, kinds of tokens and of nodes. Nothing is imported here."""

from __future__ import annotations

from typing import Literal

Grid = tuple[int, int]  # rows and columns of patches
NodeKind = Literal["cell", "parallel", "relay", "route"]
GridChoice = Literal["coarsest", "exact"]  # what to do with grids that differ
TokenKind = Literal["omega", "S", "moment", "frames", "rows"]  # what they are: composer.alignment.tokens
