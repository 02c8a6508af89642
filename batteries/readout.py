"""What a linear read-out makes of a frozen cell's omega: statistics over an image's patches, and a logistic regression on them.

Legend: B images, D width, F features, K classes, n images of one part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from batteries.data.sources import seed_of
from batteries.engine.torch_settings import neutral
from batteries.io import short_repr
from batteries.measurement.measure import PATCHES_AT_ONCE
from batteries.model.patch_svae import PatchSVAE, grid_of
from batteries.noise import NAMES, of_types

__all__ = ["ReadOut", "fit", "logistic_accuracy", "name_noise", "omega_statistics"]

PENALTY = 1e-4  # on half the squared weights, beside the mean cross-entropy; the intercepts go free
NEWTON_STEPS = 100  # at most; read-outs of omega take about 20
CONJUGATE_STEPS = 1000  # at most in each; the features of omega are strongly correlated, and take about 100
FLAT = 1e-8  # largest slope at the end
HALVINGS = 40  # of a step, beyond which rounding is all that is left to gain
READOUT_SEED = 3  # purpose of a seed, beside those of training, baselines and soft hand


@torch.no_grad()
def omega_statistics(model: PatchSVAE, images: Tensor) -> Tensor:
    """Mean and standard deviation of omega over the patches of each image, in chunks, without gradients.

    Args:
        model: The cell, in whatever mode.
        images: (B, channels, height, width).

    Returns:
        (B, 2D): D means, then D standard deviations (of the patches themselves: divided by their number).

    Raises:
        InputError: images that are not the cell's.
    """
    rows, columns = grid_of(images, model.spec)
    features = []
    for part in images.split(max(1, PATCHES_AT_ONCE // (rows * columns))):
        omega = model.tokens(part).omega  # (b, N, D)
        features.append(torch.cat([omega.mean(dim=1), omega.std(dim=1, correction=0)], dim=1))
    return torch.cat(features)


@dataclass(frozen=True, eq=False)
class ReadOut:
    """A multinomial logistic regression on standardised features.

    Attributes:
        mean: (F,) of the features it was fitted on.
        scale: (F,) their standard deviations; 1 for a constant one.
        weights: (F + 1, K) float64; the last row holds the intercepts.
    """

    mean: Tensor
    scale: Tensor
    weights: Tensor

    __repr__ = short_repr.fields

    @classmethod
    @neutral()
    def of(cls, features: Tensor, classes: Tensor, *, penalty: float = PENALTY) -> ReadOut:
        """Fitted on features (n, F) and classes (n,), as :func:`fit` does, which says what the rest is."""
        deviation, mean = torch.std_mean(features.double(), dim=0, correction=0)
        scale = torch.where(deviation > 0, deviation, 1.0)  # a constant feature says nothing, and stays 0
        return cls(mean, scale, fit((features.double() - mean) / scale, classes, penalty=penalty))

    def __call__(self, features: Tensor) -> Tensor:
        """Classes (n,) of features (n, F)."""
        return _logits(self.weights, (features.double() - self.mean) / self.scale).argmax(dim=1)

    def accuracy(self, features: Tensor, classes: Tensor) -> float:
        """How many of the features (n, F) get their class (n,)."""
        return float((self(features) == classes).double().mean())


def logistic_accuracy(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Accuracy of a :class:`ReadOut`: features (n, F) and classes (n,) that it is fitted on, and others that it is asked."""
    return ReadOut.of(*train).accuracy(*test)


@neutral()
@torch.no_grad()
def fit(features: Tensor, classes: Tensor, *, penalty: float = PENALTY) -> Tensor:
    """Weights that minimise :func:`objective`, by Newton's method with conjugate gradients (Nocedal and Wright, 7.1).

    Args:
        features: (n, F) float64, standardised.
        classes: (n,) integer, from 0 on.
        penalty: As :func:`objective` has it.

    Returns:
        (F + 1, K); the last row holds the intercepts.
    """
    inputs = torch.cat([features, features.new_ones(len(features), 1)], dim=1)  # (n, F + 1)
    wanted = F.one_hot(classes).to(features.dtype)  # (n, K)
    ridge = features.new_full((inputs.shape[1], 1), penalty)
    ridge[-1] = 0
    weights = features.new_zeros(inputs.shape[1], wanted.shape[1])
    for _ in range(NEWTON_STEPS):
        shares = _logits(weights, features).softmax(dim=1)  # (n, K)
        slope = inputs.T @ (shares - wanted) / len(inputs) + ridge * weights
        if slope.abs().max() < FLAT:
            break
        step = _newton_step(slope, inputs, shares, ridge)
        length = _length(weights, step, slope, lambda at: objective(at, features, classes, penalty))
        if not length:
            break
        weights += length * step
    return weights


def _newton_step(slope: Tensor, inputs: Tensor, shares: Tensor, ridge: Tensor) -> Tensor:
    """Solve curvature * step = -slope by conjugate gradients, the more exactly the flatter the slope is.

    The curvature is that of the objective, and only ever multiplied: as a matrix it would have ((F + 1) K)^2 numbers.
    """
    step, left = torch.zeros_like(slope), -slope
    direction, size = left, left.square().sum()
    enough = size * size.sqrt().clamp_max(0.01)  # the squared residual; quadratic convergence asks for no less
    for _ in range(CONJUGATE_STEPS):
        pushed = shares * (inputs @ direction)
        bent = inputs.T @ (pushed - shares * pushed.sum(dim=1, keepdim=True)) / len(inputs) + ridge * direction
        along = (direction * bent).sum()
        if along <= 0:  # rounding: the objective is convex
            break
        step = step + size / along * direction
        left = left - size / along * bent
        before, size = size, left.square().sum()
        if size <= enough:
            break
        direction = left + size / before * direction
    return step


def _length(weights: Tensor, step: Tensor, slope: Tensor, height: Callable[[Tensor], Tensor]) -> float:
    """How much of a step to take: the first of 1, 1/2, 1/4, ... that goes down (Armijo); 0 where none does."""
    start, promised = height(weights), (slope * step).sum()
    lengths = (0.5**halvings for halvings in range(HALVINGS))
    return next((length for length in lengths if height(weights + length * step) <= start + 1e-4 * length * promised), 0.0)


def objective(weights: Tensor, features: Tensor, classes: Tensor, penalty: float = PENALTY) -> Tensor:
    """Mean cross-entropy of (n, F) features under (F + 1, K) weights, with the penalty."""
    return F.cross_entropy(_logits(weights, features), classes) + penalty / 2 * weights[:-1].square().sum()


def _logits(weights: Tensor, features: Tensor) -> Tensor:
    """(F + 1, K) and (n, F) to (n, K)."""
    return features @ weights[:-1] + weights[-1]


@neutral()
def name_noise(model: PatchSVAE, *, per_type: tuple[int, int] = (200, 100), size: int = 64, seed: int = 0) -> float:
    """How often the omega statistics of a cell name the noise type: an accuracy, 1/16 by chance.

    Args:
        model: The cell, in whatever mode.
        per_type: Training and test images of each of the 16 types.
        size: Their side in pixels.
        seed: Of the images: every model that is asked with the same seed gets the same ones.
    """
    train, test = _noise_parts(per_type, size, seed, model.spec.channels)
    return logistic_accuracy((omega_statistics(model, train[0]), train[1]), (omega_statistics(model, test[0]), test[1]))


@lru_cache(maxsize=1)  # a quarter of a gigabyte by default
@neutral()
def _noise_parts(per_type: tuple[int, int], size: int, seed: int, channels: int) -> list[tuple[Tensor, Tensor]]:
    """Images and types of the training part, then of the test part."""
    parts = []
    for part, count in enumerate(per_type):
        types = torch.arange(len(NAMES)).repeat_interleave(count)
        generator = Generator().manual_seed(seed_of(seed, part, READOUT_SEED))
        parts.append((of_types(types, (size, size), generator, channels=channels), types))
    return parts
