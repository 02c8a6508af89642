"""Figures of cross-attention, of each layer: its change of S, its queries and keys, its alpha.

Letters: b images, N patches of an image, D width.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from batteries.diagnostics.figures import Definition, Figure
from batteries.diagnostics.image_sums import Gatherer, ImageSums, Whole
from batteries.engine.torch_settings import uncast
from batteries.model.patch_svae import ALPHA_LIMIT, CrossAttention, PatchSVAE

STAGE = "cross-attention"

CHANGE = Definition("attention-change", "relative change of S", STAGE, "mean over patches and modes of |factor - 1|")
COMMON = Definition(
    "attention-common",
    "share of the change common to all patches",
    STAGE,
    "sum over modes of (mean over patches of (factor - 1))^2 / sum over modes of the mean over patches of (factor - 1)^2",
)
PAIR_COSINE = Definition(
    "qk-cosine", "query-key cosine", STAGE, "mean over heads and pairs (i, j) of patches of an image of cos(q_i, k_j)"
)
OWN_COSINE = Definition("qk-cosine-own", "query-key cosine, own patch", STAGE, "mean over heads and patches of cos(q_i, k_i)")
ALPHA = Definition("alpha", "alpha", STAGE, "0.2 sigmoid(logit) of a mode; softplus(logit) without the bound")


class AttentionFigures(Gatherer):
    """Gatherer of the figures of cross-attention.

    Args:
        model: Model of the cell.
        images: Number of images.
    """

    def __init__(self, model: PatchSVAE, images: int) -> None:
        self._layers = [layer for layer in model.cross_attn if isinstance(layer, CrossAttention)]
        self._sums = ImageSums(images)

    def end(self, whole: Whole) -> None:
        """Add all patches of a few images."""
        lengths, ratio = whole.lengths, torch.ones_like(whole.lengths)
        for place, (layer, factor) in enumerate(zip(self._layers, whole.layers, strict=True)):
            pairs, own = _cosines(layer, lengths * ratio)
            sums = {f"pairs {place}": pairs, f"own {place}": own, f"image {place}": torch.ones_like(own)}
            self._sums.add(whole.index, **sums)
            ratio = ratio * factor
            self._add_change(whole.index, f"layer {place}", factor)
        self._add_change(whole.index, "all layers", ratio)

    def _add_change(self, index: Tensor, place: str, factor: Tensor) -> None:
        change = factor.double() - 1  # (b, N, D)
        self._sums.add(
            index,
            **{
                f"n {place}": torch.full((len(change),), change[0].numel()),
                f"size {place}": change.abs().sum(dim=(1, 2)),
                f"change {place}": change.sum(dim=1),
                f"change2 {place}": change.square().sum(dim=(1, 2)),
            },
        )

    def figures(self, cluster: Tensor) -> Iterator[Figure]:
        """Yield the figures of every layer, and of all layers together."""
        if not self._layers:
            for definition in (CHANGE, COMMON, PAIR_COSINE, OWN_COSINE, ALPHA):
                yield Figure(definition, undefined="the cell has no cross-attention")
            return
        places = [f"layer {place}" for place in range(len(self._layers))]
        for place in (*places, "all layers"):
            yield self._sums.mean(CHANGE, cluster, f"size {place}", f"n {place}", place)
        for place in (*places, "all layers"):
            found = self._sums.figure(
                COMMON, cluster, _common, f"change {place}", f"change2 {place}", f"n {place}", place=place
            )
            yield found if found.value is not None else Figure(COMMON, place, undefined="attention changes nothing")
        for number, place in enumerate(places):
            yield self._sums.mean(PAIR_COSINE, cluster, f"pairs {number}", f"image {number}", place)
        for number, place in enumerate(places):
            yield self._sums.mean(OWN_COSINE, cluster, f"own {number}", f"image {number}", place)
        for layer, place in zip(self._layers, places, strict=True):
            for mode, value in enumerate(_alpha(layer).tolist()):
                yield Figure(ALPHA, f"{place}, mode {mode}", value, tolerance=0.0)


def _cosines(layer: CrossAttention, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean cosine (b,) over heads of all pairs of patches, and of each patch with itself."""
    with torch.no_grad(), uncast(lengths.device):
        q, k, _ = rearrange(layer.qkv(layer.norm(lengths)), "b N (three h d) -> three b h N d", three=3, h=layer.heads).unbind()
        q, k = (F.normalize(part.double(), dim=-1) for part in (q, k))
        pairs = (q.mean(dim=2) * k.mean(dim=2)).sum(dim=-1)  # (b, h); the mean over pairs is a product of means
        own = (q * k).sum(dim=-1).mean(dim=2)
    return pairs.mean(dim=1), own.mean(dim=1)


def _alpha(layer: CrossAttention) -> Tensor:
    logits = layer.alpha_logits.detach().double()
    return ALPHA_LIMIT * torch.sigmoid(logits) if layer.bounded else F.softplus(logits)


def _common(change: Tensor, change2: Tensor, n: Tensor) -> Tensor:
    """Compute the common share from sums of changes by mode, of their squares, and the number of values."""
    modes = change.shape[-1]
    return (change / (n / modes)).square().sum(dim=-1) / (change2[..., 0] / (n[..., 0] / modes))
