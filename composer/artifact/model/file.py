"""Composed model as one file: saved from memory, and loaded by memory map without the original cells.

A loaded model computes bit for bit what the saved one did: its weights are the same numbers, in the memory of the mapped file.
They are read to check the digests of the file and of its cells, and not copied unless another user could change the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from batteries.cell.spec import CellSpec
from batteries.engine.torch_settings import neutral, own_draws
from batteries.errors import InputError
from batteries.io.canonical_json import fields_of
from composer.artifact.model import consensus as consensus_document
from composer.artifact.model.consensus import MAP
from composer.artifact.model.document import Artifact, SavedCell
from composer.container.container import Container
from composer.container.frozen_weights import Stack
from composer.container.outputs import node_of_all
from composer.container.spec_group import Group
from composer.sealed.reader import Opened
from composer.sealed.tensor_views import array, views
from composer.wiring.composition import Composition
from composer.wiring.nodes import Parallel, Route
from composer.wiring.wired_model import Wired, module_name, router_for

if TYPE_CHECKING:
    Arrays = dict[str, np.ndarray]

PART = re.compile(r"(groups|relays|routers|frame)(\.[0-9]+)?\.(.+)")  # of a tensor's name


def take_apart(model: Wired | Container) -> tuple[dict[str, Any], Arrays]:
    """Return the fields of a model's document, and its tensors.

    Args:
        model: Model to save, with weights as float32 for any dtype of computation. A plain container is saved as a
            composition of its cells side by side.

    Raises:
        InputError: maps or routers that do not match the composition (``PARTS``), or cell names that a file cannot hold
            (``CELLS``).
        IntegrityError: changed weights (``CONTAINER_CHANGED``).
        PolicyError: a router or a map with values that are not finite (``NON_FINITE``).
    """
    wired = _whole(model)
    wired.container.verify()
    return _taken_apart(wired)


def _whole(model: Wired | Container) -> Wired:
    """Check a model's parts again, as they may have been changed; wrap a container as a model."""
    if isinstance(model, Container):
        return Wired(model, _side_by_side(model), {}, nn.ModuleDict())
    return Wired(model.container, model.composition, model.maps, model.routers)


def _side_by_side(container: Container) -> Composition:
    """Make the composition of all cells of a container in one parallel node, see :func:`node_of_all`."""
    cells = {name: f"{lock['cell']}@{lock['version']}" for name, lock in container.lock.items()}
    every = node_of_all(cells)
    try:
        return Composition(schema_version="1.0", output=every, cells=cells, nodes={every: Parallel(of=tuple(cells))})
    except ValidationError as error:
        remedy = 'Rename them: composer.compose({"name": cell}).'
        raise InputError("invalid cell names", code="CELLS", found=fields_of(error), remedy=remedy) from error


def _taken_apart(model: Wired) -> tuple[dict[str, Any], Arrays]:
    """Return the document's fields, except digests of the data, and the tensors."""
    container, composition = model.container, model.composition
    specs, cells, arrays = _groups(container)
    relays = sorted(model.maps)
    states = {name: model.routers[module_name(name)].state_dict() for name in _routed(composition)}
    if container.consensus is not None:
        arrays |= consensus_document.arrays_of(container.consensus)
    for place, name in enumerate(relays):
        arrays |= {f"relays.{place}.{part}": array(getattr(model.maps[name], part), torch.float64) for part in MAP}
    for place, state in enumerate(states.values()):
        arrays |= {f"routers.{place}.{part}": array(tensor, torch.float32) for part, tensor in state.items()}
    return {
        "composition": composition,
        "groups": specs,
        "cells": cells,
        "input": container.scale,
        "frame": consensus_document.frame_of(container.consensus),
        "relays": {name: consensus_document.relay_of(model.maps[name]) for name in relays},
        "routers": {name: {part: tuple(tensor.shape) for part, tensor in state.items()} for name, state in states.items()},
    }, arrays


def _routed(composition: Composition) -> list[str]:
    """List the nodes with a router, by name."""
    return sorted(name for name, node in composition.nodes.items() if isinstance(node, Route) and node.by == "router")


def _groups(container: Container) -> tuple[tuple[CellSpec, ...], tuple[SavedCell, ...], Arrays]:
    """Return specs, cells with their groups, and the weights of each group, stacked in the cells' order."""
    specs: list[CellSpec] = []
    groups: dict[str, int] = {}
    arrays: Arrays = {}
    for place, (group, names) in enumerate(container.members()):
        specs.append(group.spec)
        groups |= dict.fromkeys(names, place)
        chosen = group.stack.chosen([container.place(name)[1] for name in names])
        arrays |= {f"groups.{place}.{name}": array(tensor, torch.float32) for name, tensor in chosen.items()}
    cells = (SavedCell(name=name, group=groups[name], **container.lock[name]) for name in container.names)
    return tuple(specs), tuple(cells), arrays


@neutral()
def put_together(opened: Opened[Artifact]) -> Wired | Container:
    """Build the model of a file, in evaluation mode.

    A file of cells side by side in one parallel node gives a container, any other a wired model. Weights are views of the
    mapped file, which must not be modified while the model is in use; it may be replaced or removed.

    Raises:
        FormatError: incompatible cells, maps or routers.
    """
    artifact, tensors = opened.document, _tensors(opened)
    container, composition = _container(artifact, tensors), artifact.wiring
    if composition == _side_by_side(container):
        return container.eval()
    relays = enumerate(sorted(artifact.relays.items()))
    maps = {name: consensus_document.map_of(saved, tensors[f"relays.{place}"]) for place, (name, saved) in relays}
    routers = nn.ModuleDict()
    for place, name in enumerate(sorted(artifact.routers)):
        with own_draws():  # its initial weights are drawn at random, then replaced
            router = router_for(composition, name, container)
        # a router may be trained further, so it gets its own memory
        router.load_state_dict({part: tensor.clone() for part, tensor in tensors[f"routers.{place}"].items()}, assign=True)
        routers[module_name(name)] = router
    return Wired(container, composition, maps, routers).eval()


def _tensors(opened: Opened[Artifact]) -> dict[str, dict[str, Tensor]]:
    """Group the tensors by their owner, as views of the file."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in views(opened).items():
        owner, number, part = PART.fullmatch(name).groups()  # type: ignore[union-attr]
        found.setdefault(f"{owner}{number or ''}", {})[part] = tensor
    return found


def _container(artifact: Artifact, tensors: Mapping[str, Mapping[str, Tensor]]) -> Container:
    groups = [Group(spec, Stack(tensors[f"groups.{place}"])) for place, spec in enumerate(artifact.groups)]
    places, filled = {}, [0] * len(groups)
    for cell in artifact.cells:
        places[cell.name] = cell.group, filled[cell.group]
        filled[cell.group] += 1
    container = Container(groups, places, artifact.lock, artifact.input)
    if artifact.frame is not None:
        container.consensus = consensus_document.consensus_of(artifact, artifact.frame, tensors["frame"])
    return container
