"""Batched forward of the cells of one spec: :class:`batteries.PatchSVAE` as products over a stack of weights.

The steps and their order are those of the model, with a leading axis of cells. Legend: C cells, B images, N patches of an
image, V rows, D width, H hidden, P = channels * patch_size**2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from batteries.cell.spec import CellSpec
from batteries.model import spectral
from batteries.model.bottleneck import BOTTLENECKS, Bottleneck, Gated
from batteries.model.layers import activation_of, first_activation, normed
from batteries.model.patch_svae import ALPHA_LIMIT
from batteries.model.row_norms import ROW_NORMS
from composer.container import encoder_decoder
from composer.container.attention import attend
from composer.container.boundary_smoothing import smooth
from composer.vocabulary import Grid


@dataclass(frozen=True, eq=False)
class Stage:
    """Forward steps of one spec over a stack of weights.

    Attributes:
        spec: Spec of the cells.
        weights: Weights (C, *shape) by tensor name.
        compiled: True to run encoders and decoders as kernels, which :meth:`of` decides for a whole chunk.
    """

    spec: CellSpec
    weights: Mapping[str, Tensor]
    compiled: bool

    @classmethod
    def of(cls, spec: CellSpec, weights: Mapping[str, Tensor], *given: Tensor) -> Stage:
        """Choose the fastest implementation that supports the given images, or matrices and tokens."""
        return cls(spec, weights, all(encoder_decoder.fits(spec, part) for part in given))

    def matrices(self, images: Tensor) -> Tensor:
        """Encode images (B, channels, height, width), the same for every cell, to M (C, B, N, V, D)."""
        patches = self.patches(images)  # (B N, P)
        grid = self.spec.grid(*images.shape[2:])
        raw = encoder_decoder.encode(self.spec, self.weights, patches) if self.compiled else self.encoded(patches)
        M = rearrange(raw, "C (B N) (V D) -> C B N V D", N=grid[0] * grid[1], D=self.spec.D)
        return M if self.compiled and self.spec.row_norm == "sphere" else self._rows(M)

    @property
    def bottleneck(self) -> Bottleneck:
        """Path from M to tokens and decoders, as the spec's readout says."""
        return BOTTLENECKS[self.spec.readout]

    def factors(self, lengths: Tensor) -> Tensor:
        """Compute the factor of each singular value or length (C, B, N, D) by cross-attention."""
        ratio = torch.ones_like(lengths)
        for layer in range(self.spec.cross_layers):
            ratio = ratio * self._attend(f"cross_attn.{layer}", lengths * ratio)
        return ratio

    def transformed(self, M: Tensor) -> Tensor:
        """Map M (C, B, N, V, D) by the matrix of each cell's ``linear`` readout to (C, B, N, V, D)."""
        return self._linear("readout", rearrange(M, "C B N V D -> C (B N) (V D)")).view(M.shape)

    def coded(self, M: Tensor) -> Tensor:
        """Map M (C, B, N, V, D) to the codes (C, B, N, D) of narrow readouts."""
        code = self._linear("narrow.down", rearrange(M, "C B N V D -> C (B N) (V D)"))
        if "narrow.norm.weight" in self.weights:
            code = self._norm("narrow.norm", code)
        return code.view(*M.shape[:3], self.spec.D)

    def rebuilt(self, code: Tensor) -> Tensor:
        """Map the codes (C, B, N, D) of narrow readouts to matrices (C, B, N, V, D)."""
        rows = self._linear("narrow.up", rearrange(code, "C B N D -> C (B N) D"))
        return rows.view(*code.shape[:3], self.spec.V, self.spec.D)

    def images(self, gated: Gated, grid: Grid, out: Tensor | None = None) -> Tensor:
        """Decode what the bottleneck passes on, of matrices (C, B, N, V, D): (C, B, channels, height, width).

        Reconstructions are written to ``out`` if given, without a gradient.
        """
        if self.compiled:
            stitched = encoder_decoder.decode(self.spec, self.weights, gated.X, gated.axes, gated.ratio, grid)
        else:
            stitched = self.decoded(gated.matrices(), grid)
        first, last = (self._pair(f"boundary_smooth.net.{layer}") for layer in (0, 2))
        return smooth(stitched, first, last, out)

    def patches(self, images: Tensor) -> Tensor:
        """Cut images (B, channels, height, width) into patches (B N, P)."""
        p = self.spec.patch_size
        return rearrange(images, "B c (gh p) (gw q) -> (B gh gw) (c p q)", p=p, q=p)

    def encoded(self, patches: Tensor) -> Tensor:
        """Encode patches (n, P) to (C, n, V D), before the normalisation of rows."""
        return self._linear(
            "enc_out", self._blocks("enc_blocks", first_activation(self.spec)()(self._linear("enc_in", patches)))
        )

    def decoded(self, gated: Tensor, grid: Grid) -> Tensor:
        """Decode M_hat (C, B, N, V, D) to images before smoothing."""
        h = self._act(self._linear("dec_in", rearrange(gated, "C B N V D -> C (B N) (V D)")))
        patches = self._linear("dec_out", self._blocks("dec_blocks", h))
        p = self.spec.patch_size
        return rearrange(patches, "C (B gh gw) (c p q) -> C B c (gh p) (gw q)", gh=grid[0], gw=grid[1], p=p, q=p)

    def _attend(self, name: str, S: Tensor) -> Tensor:
        N = S.shape[2]
        normed = self._norm(f"{name}.norm", rearrange(S, "C B N D -> C (B N) D"))
        q, k, v = rearrange(
            self._linear(f"{name}.qkv", normed),
            "C (B N) (three heads d) -> three (C B) heads N d",
            N=N,
            three=3,
            heads=self.spec.heads,
        )
        mixed = rearrange(attend(q, k, v), "(C B) heads N d -> C (B N) (heads d)", C=len(S))
        change = rearrange(torch.tanh(self._linear(f"{name}.out_proj", mixed)), "C (B N) D -> C B N D", N=N)
        logits = self.weights[f"{name}.alpha_logits"]
        alpha = ALPHA_LIMIT * torch.sigmoid(logits) if self.spec.bounded_alpha else F.softplus(logits)
        return 1 + alpha[:, None, None] * change

    def _blocks(self, name: str, h: Tensor) -> Tensor:
        for block in range(self.spec.depth):
            inner = self._act(self._linear(f"{name}.{block}.1", self._norm(f"{name}.{block}.0", h)))
            h = h + self._linear(f"{name}.{block}.3", inner)
        return h

    def _linear(self, name: str, x: Tensor) -> Tensor:
        """Map (C, n, inputs), or (n, inputs) shared by all cells, to (C, n, outputs)."""
        weight, bias = self._pair(name)
        return torch.baddbmm(bias[:, None], x.expand(len(weight), *x.shape[-2:]), weight.mT)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self._pair(name)
        return torch.addcmul(bias[:, None], normed(x), weight[:, None])

    def _rows(self, M: Tensor) -> Tensor:
        if self.spec.row_norm == "scale":
            lengths = M.norm(dim=-1).mean(dim=(1, 2, 3), keepdim=True)  # over all images, as in PatchSVAE
            return M / lengths[..., None].clamp_min(spectral.ROW_FLOOR)
        return ROW_NORMS[self.spec.row_norm](M)

    def _act(self, x: Tensor) -> Tensor:
        y: Tensor = activation_of(self.spec)()(x)
        return y

    def _pair(self, name: str) -> tuple[Tensor, Tensor]:
        return self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
