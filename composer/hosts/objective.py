"""Loss and score of every sample: cross-entropy and hits of a classifier, squared errors and R2 of a network that restores."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from batteries.errors import InputError


def sample_losses(output: Tensor, targets: Tensor) -> Tensor:
    """Compute the loss (B,) of every sample.

    Args:
        output: Class scores (B, classes), or values of the shape of the targets.
        targets: Classes (B,), or values in floating point.

    Raises:
        InputError: output and targets that do not fit (``TARGETS``).

    >>> import torch
    >>> sample_losses(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor([1.3863, 1.3863])
    """
    _refuse_unfit(output, targets)
    if targets.is_floating_point():
        return (output - targets).square().flatten(1).mean(dim=1)
    return F.cross_entropy(output, targets.long(), reduction="none")


def sample_scores(output: Tensor, targets: Tensor, spread: float = 1.0) -> Tensor:
    """Compute the score (B,) of every sample, float64: 1 or 0 for a class, 1 - error / spread for values.

    Args:
        output: Output of a network, as in :func:`sample_losses`.
        targets: Targets.
        spread: Variance of the targets, by which errors are divided.
    """
    _refuse_unfit(output, targets)
    if targets.is_floating_point():
        return 1 - sample_losses(output.double(), targets.double()) / spread
    return (output.argmax(dim=1) == targets).double()


def _refuse_unfit(output: object, targets: Tensor) -> None:
    if not isinstance(output, Tensor):
        raise InputError("output is no tensor", code="TARGETS", expected="one tensor", found=type(output).__name__)
    if targets.is_floating_point():
        fits = output.shape == targets.shape
    else:
        fits = output.ndim == 2 and len(targets) > 0 and targets.shape == output.shape[:1]
        fits = fits and 0 <= int(targets.min()) <= int(targets.max()) < output.shape[1]
    if fits:
        return
    raise InputError(
        "output and targets do not fit",
        code="TARGETS",
        expected="classes (B,) below the width of (B, classes), or values of one shape",
        found=f"{tuple(output.shape)} and {tuple(targets.shape)} {str(targets.dtype).removeprefix('torch.')}",
    )
