"""Linear read-out of a frozen cell's omega: statistics over an image's patches, and a logistic regression on them.

Letters: B images, D width, F features, K classes, n images of a training or test set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from batteries import short_repr
from batteries.cell.manifest import OWN_MIX, NoiseMix
from batteries.data.sources import seed_of
from batteries.engine.torch_settings import neutral
from batteries.measurement.measure import PATCHES_AT_ONCE
from batteries.model.patch_svae import PatchSVAE, grid_of
from batteries.noise import NAMES, of_types

__all__ = ["ReadOut", "fit", "logistic_accuracy", "name_noise", "omega_statistics"]

PENALTY = 1e-4  # factor of half the squared weights, added to the mean cross-entropy; intercepts are not penalised
NEWTON_STEPS = 100  # limit; read-outs of omega need about 20
CONJUGATE_STEPS = 1000  # limit per Newton step; the features of omega are strongly correlated, and need about 100
FLAT = 1e-8  # largest gradient component at convergence
HALVINGS = 40  # halvings of a step before only rounding error is left
READOUT_SEED = 3  # purpose in seed_of, distinct from training, baselines and soft hand


@torch.no_grad()
def omega_statistics(model: PatchSVAE, images: Tensor) -> Tensor:
    """Compute the mean and standard deviation of omega over the patches of each image, in chunks, without gradients.

    Args:
        model: Model of the cell, in training or evaluation mode.
        images: Images (B, channels, height, width).

    Returns:
        Features (B, 2D): D means, then D population standard deviations.

    Raises:
        InputError: images that do not fit the cell.

    >>> import batteries
    >>> model = batteries.untrained(batteries.CellSpec.preset("high"), seed=0)
    >>> batteries.readout.omega_statistics(model, batteries.noise.random_batch(4, (64, 64), seed=0)[0]).shape
    torch.Size([4, 8])
    """
    rows, columns = grid_of(images, model.spec)
    features = []
    for part in images.split(max(1, PATCHES_AT_ONCE // (rows * columns))):
        omega = model.tokens(part).omega  # (b, N, D)
        features.append(torch.cat([omega.mean(dim=1), omega.std(dim=1, correction=0)], dim=1))
    return torch.cat(features)


@dataclass(frozen=True, eq=False)
class ReadOut:
    """Multinomial logistic regression on standardised features.

    Attributes:
        mean: Means of the training features (F,).
        scale: Standard deviations of the training features (F,); 1 for a constant one.
        weights: Weights (F + 1, K), float64; the last row holds the intercepts.

    >>> import torch
    >>> from batteries import readout
    >>> features, classes = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1])
    >>> readout.ReadOut.of(features, classes).accuracy(features, classes)
    1.0
    """

    mean: Tensor
    scale: Tensor
    weights: Tensor

    __repr__ = short_repr.fields

    @classmethod
    @neutral()
    def of(cls, features: Tensor, classes: Tensor, *, penalty: float = PENALTY) -> ReadOut:
        """Fit a read-out to features (n, F) and classes (n,) with :func:`fit`."""
        deviation, mean = torch.std_mean(features.double(), dim=0, correction=0)
        scale = torch.where(deviation > 0, deviation, 1.0)  # a constant feature becomes 0
        return cls(mean, scale, fit((features.double() - mean) / scale, classes, penalty=penalty))

    def __call__(self, features: Tensor) -> Tensor:
        """Predict the classes (n,) of features (n, F)."""
        return _logits(self.weights, (features.double() - self.mean) / self.scale).argmax(dim=1)

    def accuracy(self, features: Tensor, classes: Tensor) -> float:
        """Return the fraction of features (n, F) whose class (n,) is predicted."""
        return float((self(features) == classes).double().mean())


def logistic_accuracy(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Fit a :class:`ReadOut` to training features (n, F) and classes (n,), and return its accuracy on test ones.

    >>> import torch
    >>> from batteries import readout
    >>> features, classes = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1])
    >>> readout.logistic_accuracy((features, classes), (features + 0.1, classes))
    1.0
    """
    return ReadOut.of(*train).accuracy(*test)


@neutral()
@torch.no_grad()
def fit(features: Tensor, classes: Tensor, *, penalty: float = PENALTY) -> Tensor:
    """Fit weights that minimise :func:`objective`, by Newton's method with conjugate gradients (Nocedal and Wright, 7.1).

    Args:
        features: Standardised features (n, F), float64.
        classes: Class indices (n,), from 0.
        penalty: Factor of half the squared weights.

    Returns:
        Weights (F + 1, K); the last row holds the intercepts.

    >>> import torch
    >>> from batteries import readout
    >>> features, classes = torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.tensor([0, 1])
    >>> readout.fit(features, classes).shape
    torch.Size([2, 2])
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
    """Solve curvature * step = -slope by conjugate gradients, more exactly the smaller the slope is.

    The objective's curvature is only applied to vectors: as a matrix it would have ((F + 1) K)^2 elements.
    """
    step, left = torch.zeros_like(slope), -slope
    direction, size = left, left.square().sum()
    enough = size * size.sqrt().clamp_max(0.01)  # squared residual that keeps convergence quadratic
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
    """Return the first of 1, 1/2, 1/4, ... times a step that decreases the objective enough (Armijo); 0 if none does."""
    start, promised = height(weights), (slope * step).sum()
    lengths = (0.5**halvings for halvings in range(HALVINGS))
    return next((length for length in lengths if height(weights + length * step) <= start + 1e-4 * length * promised), 0.0)


def objective(weights: Tensor, features: Tensor, classes: Tensor, penalty: float = PENALTY) -> Tensor:
    """Compute the mean cross-entropy of features (n, F) under weights (F + 1, K), plus the penalty."""
    return F.cross_entropy(_logits(weights, features), classes) + penalty / 2 * weights[:-1].square().sum()


def _logits(weights: Tensor, features: Tensor) -> Tensor:
    """Apply weights (F + 1, K) to features (n, F), giving (n, K)."""
    return features @ weights[:-1] + weights[-1]


@neutral()
def name_noise(
    model: PatchSVAE,
    *,
    per_type: tuple[int, int] = (200, 100),
    size: int = 64,
    seed: int = 0,
    mix: NoiseMix = OWN_MIX,
) -> float:
    """Measure how accurately omega statistics of a cell identify the noise type; chance is 1/16.

    Args:
        model: Model of the cell, in training or evaluation mode.
        per_type: Training and test images of each of the 16 types.
        size: Side of the images in pixels.
        seed: Seed of the images, which are the same for every model.
        mix: Mix of the noise, as in :func:`batteries.noise.of_types`; that of the cell's own probe.

    >>> import batteries
    >>> model = batteries.untrained(batteries.CellSpec.preset("high", patch_size=16), seed=0)
    >>> accuracy = batteries.readout.name_noise(model, per_type=(2, 1))
    >>> 0 <= accuracy <= 1
    True
    """
    train, test = _noise_parts(per_type, size, seed, model.spec.channels, mix)
    return logistic_accuracy((omega_statistics(model, train[0]), train[1]), (omega_statistics(model, test[0]), test[1]))


@lru_cache(maxsize=1)  # a quarter of a gigabyte by default
@neutral()
def _noise_parts(per_type: tuple[int, int], size: int, seed: int, channels: int, mix: NoiseMix) -> list[tuple[Tensor, Tensor]]:
    """Generate the images and types of the training set, then of the test set."""
    parts = []
    for part, count in enumerate(per_type):
        types = torch.arange(len(NAMES)).repeat_interleave(count)
        generator = Generator().manual_seed(seed_of(seed, part, READOUT_SEED))
        parts.append((of_types(types, (size, size), generator, channels=channels, mix=mix), types))
    return parts
