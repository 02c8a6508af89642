"""Part of a battery VAE: the sectors of one spec, with their bottlenecks and arrays.

Legend: C sectors, B images, N patches of an image, V rows, D width, Z numbers of a code.
"""

from __future__ import annotations

from torch import Tensor, nn

from batteries.cell.spec import CellSpec
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
