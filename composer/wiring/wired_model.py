"""Wired model: a container of a composition's cells, with the nodes that combine their outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from batteries import short_repr
from batteries.cell.cell import Cell
from batteries.cell.manifest import InputScale
from batteries.cell.spec import CellSpec
from batteries.engine.torch_settings import neutral, own_draws
from batteries.errors import InputError, IntegrityError
from batteries.io import canonical_json
from batteries.model.patch_svae import Tokens
from composer.alignment.probe_images import ProbeImages, images_on
from composer.alignment.relay import fit, relay
from composer.container import extra_state
from composer.container.cell_digests import CellDigests
from composer.container.container import Container
from composer.container.cost import Explanation
from composer.container.named_cells import NamedCells, described
from composer.container.outputs import TAPS, USUAL, ContainerOutput, checked_taps
from composer.procrustes.consensus import Consensus
from composer.procrustes.similarity import Alignment
from composer.wiring.compose import compose
from composer.wiring.composition import Composition
from composer.wiring.nodes import Relay, Route
from composer.wiring.route import Router, route
from composer.wiring.wired_output import NodeOutput, Together, WiredOutput

DOT = "\N{MIDDLE DOT}"


class Wired(NamedCells[Container], nn.Module):
    """Composition over a container, made by :func:`wire` or loaded from an artifact.

    Its parameters are those of its routers. Its state dict holds these, the lock and the composition's digest, but no weights
    of cells.

    Args:
        container: Cells of the composition, named by alias.
        composition: Nodes and output of the model.
        maps: Map of each relay, by name.
        routers: Router of each trainable route, by :func:`module_name`, see :func:`router_for`.

    Raises:
        InputError: cells, maps or routers that do not match the composition (``PARTS``).
        PolicyError: incompatible cells (``WIRING``).

    >>> import batteries, composer, registry
    >>> references = {"noise": "low/johanna-64", "photo": "low/fresnel-64"}
    >>> nodes = {"best": composer.Route(of=("noise", "photo"), by="router")}
    >>> composition = composer.Composition(schema_version="1.0", output="best", cells=references, nodes=nodes)
    >>> wired = composer.wire(dict(zip(references, registry.pull(*references.values()), strict=True)), composition)
    >>> wired.names, sum(weight.numel() for weight in wired.parameters())  # those of the router
    (('noise', 'photo'), 354)
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
        routed = {name for node in composition.nodes.values() if isinstance(node, Route) for name in node.of}
        relayed = {name for node in relays for name in (node.source, node.target)}
        self._needed = dict.fromkeys(routed, ("recon",)) | dict.fromkeys(relayed, TAPS)

    def forward(self, images: Tensor, taps: Collection[str] = USUAL) -> WiredOutput:
        """Run every cell and node on images (B, channels, height, width) in the cells' input scale.

        Args:
            images: Images for every cell, converted to the container's dtype.
            taps: Names among M, S, omega and recon to return of every cell; taps that a node needs are added.

        Raises:
            InputError: images with other channels, or with sides that a cell's patch size does not divide.
            PolicyError: unknown tap (``NO_TAP``).
        """
        fitted = self.container.fitting(images)
        cells = self._cells(fitted, checked_taps(taps))
        found: dict[str, Any] = dict(cells)
        for name in self._order:
            found[name] = self._node(name, found, fitted)
        dtype = images.dtype
        if dtype == fitted.dtype:
            return self._output(cells, found)
        cells = cells.to(dtype)
        given: dict[str, Any] = dict(cells)
        for name in self._order:
            made = found[name]
            given[name] = Together({one: given[one] for one in made}) if isinstance(made, Together) else made.to(dtype)
        return self._output(cells, given)

    def __getitem__(self, name: str) -> Container:
        return self.container[name]

    def __repr__(self) -> str:
        members = {group.spec: names for group, names in self.container.members()}
        composition = self.composition
        more = short_repr.counted(len(composition.nodes), "node"), f"output {composition.output!r}"
        return described("Wired", members, more, composition.node_lines())

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]  # those of its container, which may not be set
        """Names of the cells, in order."""
        return self.container.names

    @property
    def lock(self) -> CellDigests:
        """Version and digests of the cells, by name."""
        return self.container.lock

    @property
    def scale(self) -> InputScale:
        """Input scale of all cells."""
        return self.container.scale

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.container.device

    @property
    def digest(self) -> str:
        """Digest of all cells' weights, computed from memory at every call."""
        return self.container.digest

    @property
    def consensus(self) -> Consensus | None:
        """Maps of omega into the consensus frame, see :attr:`Container.consensus`."""
        return self.container.consensus

    @consensus.setter
    def consensus(self, found: Consensus | None) -> None:
        self.container.consensus = found

    def cells(self, *patterns: str) -> Container:
        """Select cells, without the nodes, over the same memory, see :meth:`Container.cells`."""
        return self.container.cells(*patterns)

    def spec(self, name: str) -> CellSpec:
        """Return the spec of a cell."""
        return self.container.spec(name)

    def tokens(self, images: Tensor) -> dict[str, Tokens]:
        """Return M, S and omega by cell name, see :meth:`Container.tokens`."""
        return self.container.tokens(images)

    def explain(self, size: tuple[int, int] = (64, 64)) -> Explanation:
        """Count groups, parameters, bytes and work of the cells, without the nodes, see :meth:`Container.explain`."""
        return self.container.explain(size)

    def verify(self) -> None:
        """Compare the cells' weights in memory with their digests, see :meth:`Container.verify`."""
        self.container.verify()

    def get_extra_state(self) -> Tensor:
        """Encode the composition's digest as a tensor."""
        return extra_state.encoded(self._identity(), self.device)

    def set_extra_state(self, state: Tensor | dict[str, Any]) -> None:
        """Check that a saved state has this composition's digest.

        Raises:
            FormatError: a state that cannot be decoded (``STATE``).
            IntegrityError: a state of another composition (``OTHER_COMPOSITION``).
        """
        if extra_state.is_absent(state):
            return
        mine, saved = self._identity(), extra_state.decoded(state, where="a composition's state")
        if saved != mine:
            raise IntegrityError(
                "state of another composition",
                code="OTHER_COMPOSITION",
                expected=mine["composition"],
                found=saved.get("composition"),
            )

    def _identity(self) -> dict[str, str]:
        return {"composition": canonical_json.sha256(self.composition.to_bytes())}

    def _output(self, cells: ContainerOutput, found: Mapping[str, Any]) -> WiredOutput:
        return WiredOutput(cells, {name: found[name] for name in self._order}, found[self.composition.output])

    def _cells(self, images: Tensor, taps: frozenset[str]) -> ContainerOutput:
        together: dict[frozenset[str], list[str]] = {}
        for name in self.names:
            together.setdefault(taps.union(self._needed.get(name, ())), []).append(name)
        outputs = [self.container(images, wanted, names) for wanted, names in together.items()]
        return ContainerOutput([group for out in outputs for group in out.groups], self.names)

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
    probe: ProbeImages | None = None,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Wired:
    """Put the cells of a composition into a container, and add its nodes.

    The model is returned in evaluation mode; call ``model.train()`` to train its routers.

    Args:
        cells: Cells by alias, exactly those of the composition.
        composition: Nodes and output of the model.
        probe: Images (B, channels, height, width), or a probe or its name, on which the relays' maps and the consensus frame
            are fitted; required if there is a relay.
        seed: Seed of the routers' weights, and of the alignment's halves and shuffles.
        dtype: Dtype of the cells' weights and arithmetic; outputs have that of the images. Routers are float32.

    Raises:
        InputError: cells other than the composition's (``PARTS``), a relay without a probe (``NO_PROBE``), or a probe on
            which the cells cannot be aligned: grids that do not nest, fewer than four images, constant tokens.
        PolicyError: incompatible cells (``WIRING``, ``MIXED_INPUT``).

    >>> import batteries, composer, registry
    >>> references = {"noise": "low/johanna-64", "photo": "low/fresnel-64"}
    >>> nodes = {"swap": composer.Relay(source="noise", target="photo")}
    >>> composition = composer.Composition(schema_version="1.0", output="swap", cells=references, nodes=nodes)
    >>> cells = dict(zip(references, registry.pull(*references.values()), strict=True))
    >>> images = batteries.probe("photos-64").images[:4]
    >>> composer.wire(cells, composition, probe=images)(images).output.recon.shape
    torch.Size([4, 3, 64, 64])
    """
    if not isinstance(composition, Composition):
        remedy = "Read a composition from a file with Composition.read(path)."
        raise InputError("not a composition", code="COMPOSITION", found=repr(composition)[:80], remedy=remedy)
    given = cells if isinstance(cells, Mapping) else {}
    if set(given) != set(composition.cells):
        raise _parts("cells", composition.cells, given)
    # compose refuses cells of different scales
    scale = next(iter(cells.values())).manifest.identity.input
    images = None if probe is None else images_on(scale, probe)
    is_batch = isinstance(images, Tensor) and images.ndim == 4  # compose refuses anything else
    size = (images.shape[2], images.shape[3]) if images is not None and is_batch else None
    composition.check({name: cell.spec for name, cell in cells.items()}, size)
    container = compose({name: cells[name] for name in composition.cells}, images, seed=seed, dtype=dtype)
    routers = nn.ModuleDict()
    with own_draws(seed):
        for name, node in composition.nodes.items():
            if isinstance(node, Route) and node.by == "router":
                routers[module_name(name)] = router_for(composition, name, container)
    return Wired(container, composition, _fitted(composition, container, images), routers).eval()


def router_for(composition: Composition, name: str, container: Container) -> Router:
    """Create the router of a route, with fresh weights."""
    node = composition.nodes[name]
    assert isinstance(node, Route)
    return Router(len(node.of), container.groups[0].spec.channels)


@torch.no_grad()
def _fitted(composition: Composition, container: Container, probe: Tensor | None) -> dict[str, Alignment]:
    """Fit the map of every relay on a probe."""
    maps = {}
    for name, node in composition.nodes.items():
        if isinstance(node, Relay):
            if probe is None:
                remedy = "Pass images in the cells' input scale: wire(cells, composition, probe=images)."
                raise InputError("no probe to fit a relay on", code="NO_PROBE", found=name, remedy=remedy)
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


def _parts(what: str, expected: Sequence[str] | Mapping[str, Any], found: Any) -> InputError:
    missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    words = [f"missing {', '.join(missing)}"] * bool(missing) + [f"unknown {', '.join(unknown)}"] * bool(unknown)
    remedy = "Use the names of the composition: {name: ...}."
    return InputError(f"{what} do not match the composition", code="PARTS", found="; ".join(words), remedy=remedy)


def module_name(name: str) -> str:
    """Convert a node's name to a valid module name: without dots, and not an attribute of :class:`torch.nn.Module`."""
    return f"{name.replace('.', DOT)}{DOT}"
