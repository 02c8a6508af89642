"""Part of a battery VAE: the sectors of one spec, with their bottlenecks and arrays.

Legend: C sectors, B images, N patches of an image, V rows, D width, Z numbers of a code.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from batteries.cell.spec import CellSpec
from batteries.model import spectral
from composer.vae.arrays import Arrays
from composer.vae.bottleneck import Bottleneck
from composer.vae.sectors import Sectors
from composer.vocabulary import Grid


class SpecPart(nn.Module):
    """Sectors of one spec.

    Args:
        names: Names of the sectors.
        sectors: Encoders and decoders.
        bottleneck: Bottlenecks and their inverses.
        arrays: Embedding arrays and maps.
    """

    def __init__(self, names: tuple[str, ...], sectors: Sectors, bottleneck: Bottleneck, arrays: Arrays) -> None:
        super().__init__()
        self.names = names
        self.sectors, self.bottleneck, self.arrays = sectors, bottleneck, arrays

    def __repr__(self) -> str:
        return f"SpecPart({len(self.names)} of {self.spec!r})"

    @property
    def spec(self) -> CellSpec:
        """Spec of the sectors."""
        return self.sectors.spec

    def decode(self, z: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Decode codes (C, B, N, Z) to unit rows (C, B, N, V, D) and images (C, B, channels, height, width)."""
        rows, magnitude = self.bottleneck.inverse(z)
        return rows, self.sectors.decode(rows * magnitude, grid)


def cosines(parts: Sequence[SpecPart], rows: Sequence[Tensor], grids: Sequence[Grid]) -> list[Tensor]:
    """Compare every array with every patch: mean cosines (B, N, C, K) by part.

    Args:
        parts: Parts of a model.
        rows: Unit rows (C, B, N, V, D) of each part.
        grids: Rows and columns of patches of each part. Parts of the same V, D and grid have one query.
    """
    families = [(part.spec.V, part.spec.D, grid) for part, grid in zip(parts, grids, strict=True)]
    sums: dict[tuple[int, int, Grid], Tensor] = {}
    for part, own, family in zip(parts, rows, families, strict=True):
        framed = part.arrays.framed(own)
        sums[family] = framed if family not in sums else sums[family] + framed
    queries = {family: spectral.unit_rows(total) for family, total in sums.items()}
    return [part.arrays.cosines(queries[family]) for part, family in zip(parts, families, strict=True)]
