"""Sectors of a battery VAE: encoders and decoders of the cells of one spec, stacked, as trainable parameters.

They start on the cells' weights. Singular values and cross-attention are not implanted: a decoder receives matrices as they
are, and the matrix of a ``linear`` readout is multiplied into the first layer of its decoder.
Legend: C sectors of a spec, B images, N patches of an image, V rows, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from batteries.cell.spec import CellSpec
from batteries.errors import InputError
from batteries.model import boundary_smoothing, spectral
from composer.container.batched_forward import Stage
from composer.vae.shapes import sector_names
from composer.vocabulary import Grid


class Rows(NamedTuple):
    """Rows of matrices on the sphere, and their lengths before.

    Attributes:
        M: Rows of unit length (C, B, N, V, D).
        lengths: Logarithm of each row's length before it was normalised (C, B, N, V).
    """

    M: Tensor
    lengths: Tensor


class Sectors(nn.Module):
    """Trainable sectors of one spec.

    Args:
        spec: Spec of the cells.
        weights: Weights (C, *shape) by tensor name, copied; those that are not implanted are left out.

    Raises:
        InputError: a spec whose rows are not on the sphere (``ROW_NORM``).
    """

    def __init__(self, spec: CellSpec, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        if spec.row_norm != "sphere":
            raise InputError("rows not on the sphere", code="ROW_NORM", expected="sphere", found=spec.row_norm)
        self.spec = spec
        self._names = sector_names(spec)
        for name, attribute in self._names.items():
            setattr(self, attribute, nn.Parameter(weights[name].detach().clone().float()))
        if "readout.weight" in weights:
            self._fold(weights["readout.weight"], weights["readout.bias"])

    def __repr__(self) -> str:
        return f"Sectors({len(self)} of {self.spec!r})"

    def __len__(self) -> int:
        return len(self.weight("enc_in.weight"))

    def weight(self, name: str) -> nn.Parameter:
        """Return the parameter (C, *shape) that started on a tensor of the cells."""
        found: nn.Parameter = getattr(self, self._names[name])
        return found

    def encode(self, images: Tensor) -> Rows:
        """Encode images (B, channels, height, width), the same for every sector."""
        return self._rows(self._stage, images)

    def encode_one(self, place: int, images: Tensor) -> Rows:
        """Encode images (B, channels, height, width) in a single sector, as one of C = 1."""
        own = {name: self.weight(name)[place : place + 1] for name in self._names}
        return self._rows(Stage(self.spec, own, compiled=False), images)

    def _rows(self, stage: Stage, images: Tensor) -> Rows:
        rows, columns = self.spec.grid(*images.shape[2:])
        N = rows * columns
        raw = rearrange(stage.encoded(stage.patches(images)), "C (B N) (V D) -> C B N V D", N=N, D=self.spec.D)
        lengths = torch.linalg.vector_norm(raw, dim=-1)
        return Rows(spectral.unit_rows(raw), lengths.clamp_min(spectral.ROW_FLOOR).log())

    def decode(self, matrices: Tensor, grid: Grid) -> Tensor:
        """Decode matrices (C, B, N, V, D) to images (C, B, channels, height, width)."""
        stitched = self._stage.decoded(matrices, grid)
        parts = (self.weight(f"boundary_smooth.net.{layer}.{part}") for layer in (0, 2) for part in ("weight", "bias"))
        each = zip(stitched, *parts, strict=True)
        return torch.stack([boundary_smoothing.smooth(own, (w1, b1), (w2, b2)) for own, w1, b1, w2, b2 in each])

    @property
    def _stage(self) -> Stage:
        return Stage(self.spec, {name: self.weight(name) for name in self._names}, compiled=False)

    @torch.no_grad()
    def _fold(self, weight: Tensor, bias: Tensor) -> None:
        """Multiply a readout (C, V D, V D) with bias (C, V D) into the first layer of the decoders."""
        first, start = self.weight("dec_in.weight"), self.weight("dec_in.bias")
        start.add_((first @ bias[..., None]).squeeze(-1))
        first.copy_(first @ weight)
