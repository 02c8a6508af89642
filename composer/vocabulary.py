"""Types shared by all subpackages: patch grids, kinds of tokens and of nodes. Imports nothing from this project."""

from __future__ import annotations

from typing import Literal

Grid = tuple[int, int]  # rows and columns of patches
NodeKind = Literal["cell", "parallel", "relay", "route"]
GridChoice = Literal["coarsest", "exact"]  # what to do with grids that differ
TokenKind = Literal["omega", "S", "moment", "frames", "rows"]  # defined in composer.alignment.tokens
