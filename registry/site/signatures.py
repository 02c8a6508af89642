"""Tokens of a cell on a few fixed images, kept by the digest of its weights. They tell which cells are alike.

Letters: B images, G regions of an image, D width.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from batteries import __version__
from batteries.cell.cell import Cell
from batteries.cell.manifest import Domain, Manifest
from batteries.data.probes import probe
from batteries.engine.torch_settings import neutral
from batteries.images.rescaling import to_input
from batteries.io.canonical_json import Document
from batteries.kept_documents import KeptDocuments
from batteries.model.patch_svae import PatchSVAE
from composer.grids import pool
from registry.site.contents import CellEntry, Contents

IMAGES = 16  # of each set
SIZE = 64  # pixels
REGIONS = 4  # of a side, at most
CHANNELS = 3
FLAT = 1e-6  # of the largest token; less is rounding
ROWS = 2  # for each dimension, at least: a map fits fewer in any case

Shown = Literal["noise16-64", "photos-64"]  # probes of the images
SETS: tuple[Shown, ...] = get_args(Shown)
ON: dict[Domain, tuple[Shown, ...]] = {"noise": ("noise16-64",), "photos": SETS}  # by the domain of a cell


class Tokens(Document):
    """Omega tokens of a cell.

    Attributes:
        shape: Images, regions and width.
        values: Numbers, float32 in little-endian order, as base64.
    """

    shape: tuple[int, int, int]
    values: str

    @classmethod
    def of(cls, tokens: Tensor) -> Tokens:
        """Return the document of tokens (B, G, D)."""
        images, regions, width = tokens.shape
        return cls(shape=(images, regions, width), values=b64encode(tokens.numpy().astype("<f4").tobytes()).decode())

    @property
    def tensor(self) -> Tensor:
        """Tokens (B, G, D), float64."""
        return torch.from_numpy(np.frombuffer(b64decode(self.values), "<f4").reshape(self.shape).astype(np.float64))


def comparable(manifest: Manifest) -> str | None:
    """Return the reason for which a cell is compared with no other; None if it is."""
    spec = manifest.spec
    if spec.channels != CHANNELS:
        return f"it takes images of {spec.channels} channels, and the images of the comparison have {CHANNELS}"
    if SIZE % spec.patch_size:
        return f"its patches do not divide images of {SIZE} pixels"
    if IMAGES * min(REGIONS, SIZE // spec.patch_size) ** 2 < ROWS * spec.D:
        return f"{IMAGES} images of {SIZE} pixels have too few patches for its width"
    return None


def tokens_of(contents: Contents, entry: CellEntry, kept: KeptDocuments) -> dict[Shown, Tensor]:
    """Return the tokens (B, G, D) of a cell on each set of images that it is compared on.

    None if it is not compared, and none on images on which they are constant or not finite.
    """
    if comparable(entry.manifest) is not None:
        return {}
    cell: list[Cell] = []  # read once, if at all

    def computed(name: Shown) -> Tokens:
        cell[:] = cell or [contents.cell(entry)]
        return Tokens.of(_tokens(cell[0], name))

    key: dict[str, Any] = {"tensors": entry.manifest.file.tensor_digest, "images": IMAGES, "package": __version__}
    key["scale"] = entry.manifest.identity.input.model_dump(mode="json")
    names = ON[entry.manifest.training.data.kind]
    found = {name: kept.recall(Tokens, {**key, "probe": name}, partial(computed, name)).tensor for name in names}
    return {name: tokens for name, tokens in found.items() if _varies(tokens)}


def _varies(tokens: Tensor) -> bool:
    rows = tokens.flatten(0, 1)
    return bool(rows.isfinite().all()) and float(rows.std(dim=0).max()) > FLAT * float(rows.abs().max())


@neutral()
@torch.no_grad()
def _tokens(cell: Cell, name: Shown) -> Tensor:
    """Return omega (B, G, D) of images spread evenly over a probe, averaged over at most 4 x 4 regions."""
    own = probe(name).images
    images = own[:: len(own) // IMAGES]
    found = PatchSVAE.from_cell(cell).tokens(to_input(images, cell.manifest.identity.input))
    rows, columns = found.grid
    regions = (min(rows, REGIONS), min(columns, REGIONS))
    return pool(found.omega, found.grid, regions).float().cpu()
