"""Images of a diagnosis: reconstructions of one image a kind, and maps of singular values over the patches of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from batteries import short_repr
from batteries.cell.manifest import OWN_MIX, NoiseMix
from batteries.diagnostics.diagnosis.coders import ModelCoder
from batteries.diagnostics.diagnosis.kinds import Kind
from batteries.diagnostics.diagnosis.resolution import GRID, wholes
from batteries.model.patch_svae import grid_of

SHOWN = ("gaussian", "pink", "blocks", "arcsine", "grating", "photographs", "text", "gradients", "contrast-0.05", "contrast-4")


@dataclass(frozen=True, eq=False)
class Picture:
    """An image and its reconstruction.

    Attributes:
        kind: Name of its kind.
        image: Image (channels, height, width).
        recon: Reconstruction (channels, height, width).
    """

    kind: str
    image: Tensor
    recon: Tensor

    __repr__ = short_repr.fields


@dataclass(frozen=True, eq=False)
class SpectrumMap:
    """Singular values of M over the patches of an image.

    Attributes:
        name: Name of the image.
        image: Image (channels, height, width).
        S: Singular values (D, rows, columns).
    """

    name: str
    image: Tensor
    S: Tensor

    __repr__ = short_repr.fields


def pictures(coder: ModelCoder, kinds: Sequence[Kind]) -> tuple[Picture, ...]:
    """Reconstruct the first image of some kinds."""
    shown = [kind for kind in kinds if kind.name in SHOWN]
    return tuple(Picture(kind.name, kind.images[0], coder.reconstruct(kind.images[:1])[0]) for kind in shown)


def maps(coder: ModelCoder, side: int, mix: NoiseMix = OWN_MIX) -> tuple[SpectrumMap, ...]:
    """Map the singular values of a photograph and of an image of four noise laws, of four times a side."""
    found = []
    for name, images in {
        "photograph": wholes("photos", GRID * side, 1)[0],
        "quadrants": wholes("noise", GRID * side, 1, mix)[0],
    }.items():
        S, _ = coder.tokens(images)
        rows, columns = grid_of(images, coder.spec)
        found.append(SpectrumMap(name, images[0], S[0].T.unflatten(1, (rows, columns))))
    return tuple(found)
