"""The images that an alignment is fitted on: a batch, a probe, or a probe's name."""

from __future__ import annotations

from torch import Tensor

from batteries.cell.manifest import InputScale
from batteries.data.probes import Probe, probe_of
from batteries.engine import dispatch
from batteries.images.rescaling import to_input

ProbeImages = Tensor | Probe | str


def images_on(scale: InputScale, probe: ProbeImages) -> Tensor:
    """Images of a probe on the cells' input scale; a batch, which is on it already, as it is.

    Raises:
        InputError: no probe of that name (``NO_PROBE``), or one whose images have other channels; or a transform or a trace of
            what is fitted on them (``DERIVATIVE``).
    """
    images = to_input(probe_of(probe).images, scale) if isinstance(probe, Probe | str) else probe
    if isinstance(images, Tensor):  # what is no batch is refused with its shape
        dispatch.refuse_transform("what is fitted on images", images)
    return images
