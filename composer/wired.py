"""A composition that runs: a container of its cells, and what its nodes make of their outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from batteries import canonical
from batteries.cell import Cell
from batteries.errors import InputError, IntegrityError, NotFoundError
from batteries.settings import neutral, seed_cpu
from composer.composing import compose
from composer.container import Container
from composer.outputs import TAPS, USUAL, CellOutput, ContainerOutput
from composer.procrustes import Alignment
from composer.relaying import Relayed, fit, relay
from composer.routing import Routed, Router, route
from composer.wiring import Composition, Relay, Route

DOT = "\N{MIDDLE DOT}"


class Together(Mapping[str, Any]):
    """What a parallel node makes of a batch: the outputs of its branches, by name and in order."""

    def __init__(self, outputs: Mapping[str, Any]) -> None:
        self._outputs = dict(outputs)

    def __getitem__(self, name: str) -> Any:
        return _named(self._outputs, name)

    def __contains__(self, name: object) -> bool:
        return name in self._outputs

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)


NodeOutput = CellOutput | Relayed | Routed | Together


@dataclass(frozen=True)
class WiredOutput:
    """What a wired model makes of a batch.

    Attributes:
        cells: Every cell's output.
        nodes: Every node's, by name.
        output: That of the composition's output.
    """

    cells: ContainerOutput
    nodes: Mapping[str, NodeOutput]
    output: NodeOutput

    def __getitem__(self, name: str) -> NodeOutput:
        """The output of a cell or of a node.

        Raises:
            NotFoundError: no such name (``NO_CELL``).
        """
        return _named({**self.cells, **self.nodes}, name)


class Wired(nn.Module):
    """A composition over a container; made by :func:`wire` or read from an artifact.

    Its parameters are those of its routers. Its state dict carries these, the lock and the composition's digest, and no cell's
    weights.

    Args:
        container: Its cells, by alias.
        composition: The wiring.
        maps: By the name of each relay.
        routers: By the name of each route that has one, as :func:`router_for` makes them.

    Raises:
        InputError: cells, maps or routers that are not those of the composition (``PARTS``).
        PolicyError: cells that do not go together (``WIRING``).
    """

    def __init__(
        self, container: Container, composition: Composition, maps: Mapping[str, Alignment], routers: nn.ModuleDict
    ) -> None:
        super().__init__()
        _refuse_other_parts(container, composition, maps, routers)
        composition.check({name: container.spec(name) for name in container.names})
        self.container = container
        self.composition = composition
        self.maps = dict(maps)
        self.routers = routers
        self._order = composition.order
        relays = [node for node in composition.nodes.values() if isinstance(node, Relay)]
        tapped = {name for node in relays for name in (node.source, node.target)}
        plain = [name for name in container.names if name not in tapped]
        self._taken = tuple((names, taps) for names, taps in ((plain, USUAL), (sorted(tapped), TAPS)) if names)

    def forward(self, images: Tensor) -> WiredOutput:
        """Every cell's and every node's output for images (B, channels, height, width) in the cells' input scale.

        Raises:
            InputError: other channels, or sides that a cell's patch does not divide.
        """
        dtype, images = images.dtype, self.container.fitting(images)
        cells = self._cells(images)
        found: dict[str, Any] = dict(cells)
        for name in self._order:
            found[name] = self._node(name, found, images)
        if dtype == images.dtype:
            return self._output(cells, found)
        cells = cells.to(dtype)
        given: dict[str, Any] = dict(cells)
        for name in self._order:
            made = found[name]
            given[name] = Together({one: given[one] for one in made}) if isinstance(made, Together) else made.to(dtype)
        return self._output(cells, given)

    def get_extra_state(self) -> dict[str, Any]:
        """The composition's digest."""
        return {"composition": canonical.sha256(self.composition.to_bytes())}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Check a saved digest.

        Raises:
            IntegrityError: of another composition (``OTHER_COMPOSITION``).
        """
        mine = self.get_extra_state()
        if state != mine:
            raise IntegrityError(
                "a state saved with another composition",
                code="OTHER_COMPOSITION",
                expected=mine["composition"],
                found=state.get("composition"),
            )

    def _output(self, cells: ContainerOutput, found: Mapping[str, Any]) -> WiredOutput:
        return WiredOutput(cells, {name: found[name] for name in self._order}, found[self.composition.output])

    def _cells(self, images: Tensor) -> ContainerOutput:
        outputs = [self.container(images, taps, names) for names, taps in self._taken]
        return ContainerOutput([group for out in outputs for group in out.groups], self.container.names)

    def _node(self, name: str, found: Mapping[str, Any], images: Tensor) -> NodeOutput:
        node = self.composition.nodes[name]
        if isinstance(node, Relay):
            source, target = found[node.source], found[node.target]
            return relay(node.tokens, self.maps[name], source, target, self.container, node.target, images)
        if isinstance(node, Route):
            router = self.routers[module_name(name)] if node.by == "router" else None
            return route(node.of, [found[branch] for branch in node.of], images, router)
        return Together({branch: found[branch] for branch in node.of})


@neutral()
def wire(
    cells: Mapping[str, Cell],
    composition: Composition,
    probe: Tensor | None = None,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Wired:
    """Put the cells of a composition into a container, and its nodes around it.

    The model is in the mode of evaluation; its routers learn after ``model.train()``.

    Args:
        cells: By alias, those that the composition names.
        composition: The wiring.
        probe: Images (B, channels, height, width) on which the maps of relays, and the consensus frame, are fitted; needed
            where there is a relay.
        seed: Of routers' weights, and of the alignment's halves and shuffles.
        dtype: Of the cells' weights and of the arithmetic; outputs come in the images' own. Routers have float32.

    Raises:
        InputError: other cells than the composition names (``PARTS``), a relay without a probe (``NO_PROBE``), or a probe on
            which the cells cannot be aligned: grids that do not nest, fewer than four images, constant tokens.
        PolicyError: cells that do not go together (``WIRING``, ``MIXED_INPUT``).
    """
    if not isinstance(composition, Composition):
        remedy = "Composition.read(path) reads one from a file."
        raise InputError("not a composition", code="COMPOSITION", found=repr(composition)[:80], remedy=remedy)
    given = cells if isinstance(cells, Mapping) else {}
    if set(given) != set(composition.cells):
        raise _parts("cells", composition.cells, given)
    is_batch = isinstance(probe, Tensor) and probe.ndim == 4  # what is not, compose refuses
    size = (probe.shape[2], probe.shape[3]) if probe is not None and is_batch else None
    composition.check({name: cell.spec for name, cell in cells.items()}, size)
    container = compose({name: cells[name] for name in composition.cells}, probe, seed=seed, dtype=dtype)
    routers = nn.ModuleDict()
    with torch.random.fork_rng(devices=[]):
        seed_cpu(seed)
        for name, node in composition.nodes.items():
            if isinstance(node, Route) and node.by == "router":
                routers[module_name(name)] = router_for(composition, name, container)
    return Wired(container, composition, _fitted(composition, container, probe), routers).eval()


def router_for(composition: Composition, name: str, container: Container) -> Router:
    """A router of the form that a route needs, with fresh weights."""
    node = composition.nodes[name]
    assert isinstance(node, Route)
    return Router(len(node.of), container.groups[0].spec.channels)


@torch.no_grad()
def _fitted(composition: Composition, container: Container, probe: Tensor | None) -> dict[str, Alignment]:
    """The map of every relay, fitted on a probe."""
    maps = {}
    for name, node in composition.nodes.items():
        if isinstance(node, Relay):
            if probe is None:
                remedy = "Give images of the cells' own kind: wire(cells, composition, probe=images)."
                raise InputError("a relay without images to fit its map on", code="NO_PROBE", found=name, remedy=remedy)
            out = container(
                container.fitting(probe), ("omega",) if node.tokens == "omega" else ("M",), (node.source, node.target)
            )
            maps[name] = fit(node.tokens, out[node.source], out[node.target])
    return maps


def _refuse_other_parts(
    container: Container, composition: Composition, maps: Mapping[str, Alignment], routers: nn.ModuleDict
) -> None:
    nodes = composition.nodes.items()
    wanted = [name for name, node in nodes if isinstance(node, Route) and node.by == "router"]
    for what, names, found in (
        ("cells", composition.cells, container.names),
        ("maps", [name for name, node in nodes if isinstance(node, Relay)], maps),
        ("routers", [module_name(name) for name in wanted], routers),
    ):
        if set(names) != set(found):
            raise _parts(what, names, found)


def _named(outputs: Mapping[str, Any], name: str) -> Any:
    if name not in outputs:
        raise NotFoundError("no such cell or node", code="NO_CELL", expected=" | ".join(outputs), found=name)
    return outputs[name]


def _parts(what: str, expected: Sequence[str] | Mapping[str, Any], found: Any) -> InputError:
    missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    words = [f"no {', '.join(missing)}"] * bool(missing) + [f"{', '.join(unknown)} beside them"] * bool(unknown)
    remedy = "Give each its name there: {name: ...}."
    return InputError(f"other {what} than the composition names", code="PARTS", found="; ".join(words), remedy=remedy)


def module_name(name: str) -> str:
    """A node's name as that of a module, which may hold no dot and be no word of :class:`torch.nn.Module`, as ``train`` is."""
    return f"{name.replace('.', DOT)}{DOT}"
