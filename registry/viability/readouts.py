"""Read-outs of one kind of token alone, fitted in closed form: the content of M, and the content of omega.

| reads | noise cells | photograph cells |
|---|---|---|
| ``M`` | pixels of a patch, from the rows of its M | the same |
| ``omega`` | noise type of an image, from mean and standard deviation of omega | pixels of a patch, from omega and squares |

Pixels are of images of the cell's own domain. The types to name are those of the task: of a cell of a single type, all 16.

The loss is the share of the variance that remains unexplained, or the share of images with the wrong name. It is compared with
that of read-outs of untrained cells, which are random features of the same size and are not easily beaten.

Legend: B images, N patches, K patches taken of an image, V rows, D width, P patch dimension, F features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Generator, Tensor

from batteries.engine import parallel
from batteries.engine.torch_settings import PINNED, neutral
from batteries.images.image_batch import unjudged
from batteries.measurement.baselines import to_patches
from batteries.model.patch_svae import PatchSVAE
from batteries.readout import ReadOut
from composer.hosts.tasks import Parts, Task
from registry.catalog.figures import ReadOutFigure, Subject, TokenKind

LEARNED = 2  # patches of a training image
JUDGED = 8  # patches of a test image
AT_ONCE = 64  # images
PENALTY = 0.1  # of a ridge regression, in units of the mean squared length of a centred feature vector


@neutral()
@unjudged()
@torch.no_grad()
def read_outs(model: PatchSVAE, task: Task, subject: Subject, own: Parts | None = None) -> tuple[ReadOutFigure, ReadOutFigure]:
    """Fit read-outs of M and of omega to training images, and measure their losses on test images.

    Args:
        model: Model of the cell.
        task: Task with class labels; a cluster per test image marks crops of one photograph.
        subject: Role of the cell in the report.
        own: Images of the cell's own domain, whose pixels are read from M, if the task has others.
    """
    learned, judged = _both(model, task.train[0], task.test[0])
    classes = task.train[1], task.test[1]
    of_rows = (learned, judged) if own is None else _both(model, own.train[0], own.test[0])
    rows = _unexplained(of_rows[0].rows, of_rows[0].pixels, of_rows[1].rows, of_rows[1].pixels)
    if task.cluster is None:
        omega = (ReadOut.of(learned.statistics, classes[0])(judged.statistics) != classes[1]).double()
    else:
        omega = _unexplained(learned.omega, learned.pixels, judged.omega, judged.pixels)
    strata = task.cluster is None
    kinds = classes[1] if own is None else own.test[1]
    return _figure(subject, "M", rows, kinds, strata=strata), _figure(subject, "omega", omega, classes[1], strata=strata)


@dataclass(frozen=True, eq=False)
class _Features:
    """Features of K patches of each image, and of the whole images, float64.

    Attributes:
        pixels: Pixels (B, K, P).
        rows: Rows of M (B, K, V D).
        omega: Omega / sqrt(V) and its squares (B, K, 2 D), between 0 and about 1.
        statistics: Mean and standard deviation of omega over all patches (B, 2 D).
    """

    pixels: Tensor
    rows: Tensor
    omega: Tensor
    statistics: Tensor


def _both(model: PatchSVAE, train: Tensor, test: Tensor) -> tuple[_Features, _Features]:
    return _features(model, train, LEARNED), _features(model, test, JUDGED)


def _features(model: PatchSVAE, images: Tensor, count: int) -> _Features:
    """Read ``count`` patches of each image, the same ones for every cell of a patch size."""
    pixels = rearrange(to_patches(images, model.spec), "(B N) P -> B N P", B=len(images))
    order = torch.rand(pixels.shape[:2], generator=Generator().manual_seed(count), **PINNED).argsort(dim=1)
    parts = [_tokens(model, *part) for part in zip(images.split(AT_ONCE), order[:, :count].split(AT_ONCE), strict=True)]
    rows, omega, statistics = (torch.cat(part).double() for part in zip(*parts, strict=True))
    omega = omega / model.spec.V**0.5
    chosen = pixels[torch.arange(len(images))[:, None], order[:, :count]]
    return _Features(chosen.double(), rows, torch.cat([omega, omega.square()], dim=2), statistics)


def _tokens(model: PatchSVAE, images: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows of M (B, K, V D) and omega (B, K, D) of chosen patches (B, K), and statistics of omega (B, 2 D)."""
    parallel.leave_if_failed()
    tokens = model.tokens(images)
    place = torch.arange(len(images))[:, None], chosen
    statistics = torch.cat([tokens.omega.mean(dim=1), tokens.omega.std(dim=1, correction=0)], dim=1)
    return tokens.M[place].flatten(2), tokens.omega[place], statistics


def _unexplained(learned: Tensor, pixels: Tensor, judged: Tensor, wanted: Tensor) -> Tensor:
    """Return the unexplained share (B,) of the variance of wanted pixels (B, K, P), by ridge regression on features."""
    fitted = Ridge.of(learned.flatten(0, 1), pixels.flatten(0, 1))
    found = fitted(judged.flatten(0, 1)).view_as(wanted)
    spread = (wanted - wanted.mean(dim=(0, 1))).square().mean()
    return (found - wanted).square().mean(dim=(1, 2)) / spread


def _figure(subject: Subject, reads: TokenKind, each: Tensor, labels: Tensor, *, strata: bool) -> ReadOutFigure:
    """Average the losses of test images (B,) by class; images of a noise type are a stratum, photographs are clusters."""
    kinds = [each[labels == kind] for kind in labels.unique()]
    within = None
    if strata and min(map(len, kinds)) > 1:
        within = math.sqrt(sum(float(kind.var()) / len(kind) for kind in kinds)) / len(kinds)
    return ReadOutFigure(subject=subject, reads=reads, losses=tuple(float(kind.mean()) for kind in kinds), within=within)


@dataclass(frozen=True, eq=False)
class Ridge:
    """Linear prediction of several targets; F features, P targets, n samples.

    Attributes:
        mean: Means of the training features (F,).
        scale: Root mean squared length of the centred training features: one for all, so that a rotation of the features, such
            as another order, other signs or other axes of the rows of M, changes no prediction.
        weights: Weights of the scaled features (F, P).
        level: Means of the training targets (P,).
    """

    mean: Tensor
    scale: float
    weights: Tensor
    level: Tensor

    @classmethod
    def of(cls, features: Tensor, wanted: Tensor) -> Ridge:
        """Fit features (n, F) to targets (n, P), float64; in the dual form, since n is often smaller than F."""
        mean, level = features.mean(dim=0), wanted.mean(dim=0)
        length = float((features - mean).square().sum(dim=1).mean().sqrt())
        scale = length or 1.0  # of constant features, which predict the mean
        learned = (features - mean) / scale
        gram = learned @ learned.T + PENALTY * torch.eye(len(learned), dtype=learned.dtype)
        weights = learned.T @ torch.cholesky_solve(wanted - level, torch.linalg.cholesky(gram))
        return cls(mean, scale, weights, level)

    def __call__(self, features: Tensor) -> Tensor:
        """Predict the targets (m, P) of features (m, F)."""
        return (features - self.mean) / self.scale @ self.weights + self.level

    @property
    def affine(self) -> tuple[Tensor, Tensor]:
        """Weights (F, P) and intercepts (P,) on the features as they are."""
        weights = self.weights / self.scale
        return weights, self.level - self.mean @ weights
