"""Battery VAE as one file, saved and loaded bit by bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from batteries.cell.spec import CellSpec
from batteries.engine.torch_settings import neutral
from batteries.errors import PolicyError
from composer.artifact.model.document import SavedCell
from composer.artifact.vae.document import SavedVae
from composer.sealed.reader import Opened
from composer.sealed.tensor_views import array, views
from composer.vae import shapes
from composer.vae.battery_vae import BatteryVAE

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Arrays = dict[str, np.ndarray]


def take_apart(vae: BatteryVAE) -> tuple[dict[str, Any], Arrays]:
    """Return the fields of a VAE's document, and its tensors.

    Raises:
        PolicyError: a VAE without parents (``NO_PARENTS``).
    """
    if not vae.lock:
        remedy = "Make it from cells: BatteryVAE.from_cells(cells)."
        raise PolicyError(
            "battery VAE without parents", code="NO_PARENTS", expected="a lock of cells", found=vae, remedy=remedy
        )
    groups = {name: place for place, part in enumerate(vae.parts) for name in part.names}
    fields = {
        "groups": tuple(part.spec for part in vae.parts),
        "parents": tuple(SavedCell(name=name, group=groups[name], **vae.lock[name]) for name in vae.names),
        "input": vae.scale,
        "bottleneck": vae.width,
        "arrays": vae.arrays,
        "history": vae.history,
    }
    return fields, {name.removeprefix("_"): array(tensor, torch.float32) for name, tensor in vae.named_parameters()}


@neutral()
def put_together(opened: Opened[SavedVae]) -> BatteryVAE:
    """Build the VAE of a file, with parameters in memory of their own, to be trained further."""
    said, tensors = opened.document, views(opened)
    specs = {parent.name: said.groups[parent.group] for parent in said.parents}
    weights = {spec: _implanted(spec, place, tensors) for place, spec in enumerate(said.groups)}
    vae = BatteryVAE(specs, weights, lock=said.lock, scale=said.input, bottleneck=said.bottleneck, arrays=said.arrays)
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            parameter.copy_(tensors[name.removeprefix("_")])
    vae.history = said.history
    return vae.eval()


def _implanted(spec: CellSpec, place: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the implanted tensors of a group, by the names that they have in a cell."""
    prefix = f"parts.{place}.sectors."
    return {name: tensors[prefix + own] for name, own in shapes.sector_names(spec).items()}
