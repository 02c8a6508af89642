"""Checks of content: errors by type and by image, on mirror images of the probe, of the rows of M, and of read-outs.

The mean error alone hides a cell that fails on a few types or images, and one that knows the probe; and it says nothing about
what the tokens carry, since the decoder reads M and never omega alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from batteries.data.probes import Probe
from batteries.geometry import estimates
from batteries.geometry.estimates import Estimate
from batteries.measurement.measure import Reading, read
from batteries.model.patch_svae import PatchSVAE
from registry.catalog.figures import CheckFigure, ReadOutFigure
from registry.checks.figures import Z99, at_most, flag, t99
from registry.checks.protocol import Threshold, ViabilityProtocol

DEAD = 1e-6  # variance of a row over patches: shipped cells have 2e-3 and more
FLAT = 1e-6  # variance of pixels around their image's mean colour, below which there is only colour to answer
SAME = 0.9999  # mean |cosine| of two rows: shipped cells have 0.994 and less
OMEGA_CHECKS = frozenset({"read-out, omega", "lift, name the noise type"})  # those that read nothing but omega


@dataclass(frozen=True)
class Content:
    """Errors and rows of a cell on its own probe.

    Attributes:
        types: Error on each noise type or photograph, as a share of that of answering each image's mean colour, but for types
            of constant colours, as the published mix has.
        images: Error on each image, as a share of that of answering its type's mean colour.
        rows: Rows that vary over patches and are no copies of another.
    """

    types: dict[str, float]
    images: tuple[float, ...]
    rows: int


def content(reading: Reading, probe: Probe) -> Content:
    """Derive the content figures from a reading of a probe."""
    kinds = range(len(probe.groups))
    own = _distance(probe.images, probe.images.mean(dim=(2, 3), keepdim=True))
    level = torch.stack([probe.images[probe.group == kind].mean(dim=(0, 2, 3)) for kind in kinds])
    shared = _distance(probe.images, level[probe.group][:, :, None, None])
    members = {name: probe.group == kind for kind, name in enumerate(probe.groups)}
    types = {name: _ratio(reading.mse, own, of) for name, of in members.items() if own[of].mean() > FLAT}
    return Content(types, tuple((reading.mse / shared).tolist()), _live_rows(reading.matrices))


def mirrored(model: PatchSVAE, probe: Probe, reading: Reading) -> Estimate:
    """Measure the error on mirror images of the probe over that on the probe, paired by cluster.

    A cell that has seen the probe in training knows it better than its mirror images, left to right and across the diagonal;
    to any other cell they are as good as the probe.
    """
    turned = [probe.images.flip(3), probe.images.transpose(2, 3)]
    errors = torch.stack([read(model, images, probe.cluster).mse for images in turned]).mean(dim=0)
    ratio = float(errors.mean() / reading.mse.mean())
    spread = estimates.clustered_mean(errors - ratio * reading.mse, probe.cluster)
    error = spread.standard_error / float(reading.mse.mean())
    return Estimate(ratio, error, spread.matrices, spread.by_image)


def of_content(found: Content, V: int, protocol: ViabilityProtocol) -> list[CheckFigure]:
    """Check that all rows are used, and that no type and no image is answered no better than by a constant."""
    quantiles = torch.tensor(found.images, dtype=torch.float64).quantile(torch.tensor([0.5, 0.95, 0.99], dtype=torch.float64))
    middle, high, higher = (f"{q:.3g}" for q in quantiles.tolist())
    tails = f"error on an image over that of its type's mean colour; median {middle}, 95% {high}, 99% {higher}"
    lost = Threshold(value=0.0, source=protocol.type_share.source)
    return [
        at_most("rows", float(V - found.rows), lost, f"rows of {V} that are constant or copies of another"),
        _worst_type(found.types, protocol),
        at_most("error, worst image", max(found.images), protocol.image_share, tails),
    ]


def _worst_type(types: Mapping[str, float], protocol: ViabilityProtocol) -> CheckFigure:
    """Check the type of largest error; types of constant colours alone leave nothing to judge."""
    if not types:
        words = "the probe has constant colours only: no pattern to reconstruct"
        return flag("error, worst type", None, f"at most {protocol.type_share.value:g}", words, decides=False)
    name, worst = max(types.items(), key=lambda item: item[1])
    return at_most("error, worst type", worst, protocol.type_share, f"error on {name} over that of each image's mean colour")


def of_mirrored(found: Estimate, protocol: ViabilityProtocol) -> CheckFigure:
    """Check that mirror images of the probe are no harder than the probe."""
    words = "error on mirror images of the probe over that on the probe"
    return at_most(
        "error, mirrored", found.value, protocol.unseen, words, error=found.standard_error, quantile=t99(found.images)
    )


def of_readout(own: ReadOutFigure, null: Sequence[ReadOutFigure], protocol: ViabilityProtocol) -> CheckFigure:
    """Check the loss of a read-out over that of untrained cells; its error combines test images and untrained cells.

    Photographs are a sample: the ratio is paired by photograph. Noise types are not: their images are.
    """
    losses = torch.tensor([figure.losses for figure in null if figure.reads == own.reads], dtype=torch.float64)  # (cells, K)
    level, ratio = float(losses.mean()), own.loss / float(losses.mean())
    images, quantile = own.within, Z99
    if images is None:
        quantile = t99(len(own.losses))
        left = torch.tensor(own.losses, dtype=torch.float64) - ratio * losses.mean(dim=0)
        images = estimates.clustered_mean(left, torch.arange(len(left))).standard_error
    untrained = ratio * float(losses.mean(dim=1).std()) / math.sqrt(len(losses))
    words = f"loss of a read-out of {own.reads} alone, {own.loss:.3g}, over that of untrained cells, {level:.3g}"
    error = math.hypot(images, untrained) / level
    return at_most(f"read-out, {own.reads}", ratio, protocol.readout, words, error=error, quantile=quantile)


def _distance(images: Tensor, answer: Tensor) -> Tensor:
    """Return the mean squared error (B,), float64, of an answer to each image."""
    return (images - answer).double().square().mean(dim=(1, 2, 3))


def _ratio(error: Tensor, constant: Tensor, chosen: Tensor) -> float:
    return float(error[chosen].mean() / constant[chosen].mean())


def _live_rows(M: Tensor) -> int:
    """Count the rows of matrices (n, V, D) that vary from matrix to matrix and are no copy, or negative, of a row before."""
    M = M.double()
    varies = (M - M.mean(dim=0)).square().sum(dim=2).mean(dim=0) > DEAD  # (V,)
    unit = torch.nn.functional.normalize(M, dim=2)
    alike = (unit @ unit.mT).abs().mean(dim=0)  # (V, V)
    copies = torch.tril(alike > SAME, diagonal=-1).any(dim=1)
    return int((varies & ~copies).sum())
