"""Content of a cell: the variance of images that it explains beyond predicting their mean colour, and the share kept of it."""

from __future__ import annotations

from torch import Tensor


def mean_error(images: Tensor) -> float:
    """Return the error of predicting the mean colour of images (B, channels, height, width).

    >>> import torch
    >>> mean_error(torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1))
    1.0
    """
    mean = images.mean(dim=(0, 2, 3), keepdim=True)
    return float((images - mean).double().square().mean())


def kept(before: float, after: float, mean: float) -> float:
    """Return the share kept of the variance explained beyond predicting the mean; 0 if there was none.

    Args:
        before: Error before a change.
        after: Error after it.
        mean: Error of predicting the mean.

    >>> kept(0.2, 0.4, mean=1.2)
    0.7999999999999999
    """
    return (mean - after) / (mean - before) if before < mean else 0.0
