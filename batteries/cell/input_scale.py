"""Input scales of cells trained on images of another scale than this package's. Does not import torch.

This package has photographs x in [-1, 1] and noise as generated. A network trained elsewhere may have seen (u - mean) / std of
images u in [0, 1]; with u = (x + 1) / 2 that is (x - (2 mean - 1)) / (2 std).
"""

from __future__ import annotations

from collections.abc import Sequence

from batteries.cell.manifest import InputScale


def of_unit_images(mean: Sequence[float], std: Sequence[float]) -> InputScale:
    """Return the input scale of a network trained on (u - mean) / std of images u in [0, 1].

    >>> of_unit_images((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)) == InputScale()
    True
    """
    return InputScale(mean=tuple(2 * value - 1 for value in mean), std=tuple(2 * value for value in std))


IMAGENET = of_unit_images((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
