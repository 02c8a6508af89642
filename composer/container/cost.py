"""Size of a container, and its cost per image."""

from __future__ import annotations

from dataclasses import dataclass

from batteries import short_repr
from batteries.cell.spec import CellSpec
from batteries.model.bottleneck import BOTTLENECKS


@dataclass(frozen=True)
class GroupCost:
    """Cost of the cells of one spec.

    Attributes:
        spec: Spec of the cells.
        names: Names of the cells.
        patches: Number of patches of one image.
        parameters: Number of parameters of all cells.
        bytes: Bytes of all weights in memory.
        encode_flops: Floating-point operations of all cells for one image, up to omega.
        flops: Floating-point operations of all cells for one image, including reconstructions.
    """

    spec: CellSpec
    names: tuple[str, ...]
    patches: int
    parameters: int
    bytes: int
    encode_flops: int
    flops: int

    __repr__ = short_repr.fields


@dataclass(frozen=True)
class Explanation:
    """Costs of a container's groups for images of one size; ``str`` formats a table.

    Attributes:
        size: Height and width of the images.
        groups: Cost of each group, one per spec.
    """

    size: tuple[int, int]
    groups: tuple[GroupCost, ...]

    def __repr__(self) -> str:
        head = f"Explanation({short_repr.counted(len(self.groups), 'spec')}, images of {self.size[0]} x {self.size[1]})"
        return short_repr.rows(head, str(self).splitlines())

    @property
    def parameters(self) -> int:
        """Number of parameters of all cells."""
        return sum(group.parameters for group in self.groups)

    @property
    def bytes(self) -> int:
        """Bytes of all cells in memory."""
        return sum(group.bytes for group in self.groups)

    @property
    def flops(self) -> int:
        """Floating-point operations of all cells for one image, including reconstructions."""
        return sum(group.flops for group in self.groups)

    def __str__(self) -> str:
        rows = [("cells", "V x D", "patch", "patches", "parameters", "MB", "GFLOP to omega", "GFLOP")]
        rows += [
            (
                str(len(group.names)),
                f"{group.spec.V} x {group.spec.D}",
                str(group.spec.patch_size),
                str(group.patches),
                f"{group.parameters:,}",
                f"{group.bytes / 1e6:.1f}",
                f"{group.encode_flops / 1e9:.3f}",
                f"{group.flops / 1e9:.3f}",
            )
            for group in self.groups
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(word.rjust(width) for word, width in zip(row, widths, strict=True)) for row in rows]
        total = f"{self.parameters:,} parameters, {self.bytes / 1e6:.1f} MB, {self.flops / 1e9:.3f} GFLOP"
        return "\n".join([*lines, f"one image of {self.size[0]} x {self.size[1]}: {total}"])


def encode_flops(spec: CellSpec, size: tuple[int, int]) -> int:
    """Count the floating-point operations of one cell and one image up to omega.

    Counted are products and sums of linear layers, attention and the Gram matrix, and 9 D**3 for its eigendecomposition
    (Golub and Van Loan, 8.3), but not activations, norms and roots.
    """
    rows, columns = spec.grid(*size)
    patches, D, H = rows * columns, spec.D, spec.hidden
    layers = spec.patch_dim * H + 2 * spec.depth * H * H + H * spec.V * D
    attention = _attention(spec, patches) if BOTTLENECKS[spec.readout].reads_omega else 0
    return patches * (2 * (layers + spec.V * D * D + attention) + 9 * D**3)


def flops(spec: CellSpec, size: tuple[int, int]) -> int:
    """Count the floating-point operations of a reconstruction: bottleneck, decoder, smoothing, and :func:`encode_flops`."""
    rows, columns = spec.grid(*size)
    patches, H = rows * columns, spec.hidden
    decoder = spec.V * spec.D * H + 2 * spec.depth * H * H + H * spec.patch_dim
    smoothing = 2 * 9 * spec.channels * spec.smooth_width * size[0] * size[1]
    return encode_flops(spec, size) + 2 * (patches * (decoder + _bottleneck(spec, patches)) + smoothing)


def _attention(spec: CellSpec, patches: int) -> int:
    """Count the products of cross-attention for one patch."""
    return spec.cross_layers * (4 * spec.D * spec.D + 2 * patches * spec.D)


def _bottleneck(spec: CellSpec, patches: int) -> int:
    """Count the products from M, and from omega if the decoder reads it, to what the decoder receives of one patch."""
    match spec.readout:
        case "svd":
            return spec.D**3 + spec.V * spec.D**2
        case "linear":
            return (spec.V * spec.D) ** 2 + spec.V * spec.D + _attention(spec, patches)
        case "none":
            return spec.V * spec.D + _attention(spec, patches)
        case "narrow" | "narrow_norm" | "narrow_sphere":
            return 2 * spec.V * spec.D**2 + _attention(spec, patches)
