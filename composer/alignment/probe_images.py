"""The images that an alignment is fitted on: a batch, a probe, or a probe's name."""

from __future__ import annotations

from torch import Tensor

from batteries.cell.manifest import InputScale
from batteries.data.probes import Probe, probe_of
from batteries.pictures.rescaling import to_input

ProbeImages = Tensor | Probe | str


def images_on(scale: InputScale, probe: ProbeImages) -> Tensor:
    """The images of a probe on the cells' input scale; a batch, which is on it already, as it is.

    Raises:
        InputError: no probe of that name (``NO_PROBE``), or one whose images have other channels.
    """
    return to_input(probe_of(probe).images, scale) if isinstance(probe, Probe | str) else probe
