"""Images on which an alignment is fitted: a batch, a probe, or a probe's name."""

from __future__ import annotations

from torch import Tensor

from batteries.cell.manifest import InputScale
from batteries.data.probes import Probe, probe_of
from batteries.engine import dispatch
from batteries.images.rescaling import to_input

ProbeImages = Tensor | Probe | str


def images_on(scale: InputScale, probe: ProbeImages) -> Tensor:
    """Return a probe's images on the cells' input scale; return a batch, which is already on it, unchanged.

    Raises:
        InputError: unknown probe (``NO_PROBE``), a probe whose images have other channels, or images under a transform or a
            trace of torch (``DERIVATIVE``).
    """
    images = to_input(probe_of(probe).images, scale) if isinstance(probe, Probe | str) else probe
    if isinstance(images, Tensor):  # anything else is refused later, with its shape
        dispatch.refuse_transform("what is fitted on images", images)
    return images
