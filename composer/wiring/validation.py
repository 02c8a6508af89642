"""What is wrong with a composition: every fault, in words. :mod:`composer.wiring.composition` raises them together."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Protocol

import networkx as nx

from batteries.cell.spec import CellSpec
from batteries.errors import InputError
from composer.vocabulary import NodeKind
from composer.wiring.nodes import MAX_NAME, Node

MAX_SHOWN = 50  # members of a circle
MAX_GUESSES = 12  # of what somebody meant, each among MAX_COMPARED names: a guess is not to take a second
MAX_COMPARED = 1000

Size = tuple[int, int] | None

NESTS: dict[str, frozenset[NodeKind]] = {
    "parallel": frozenset({"cell", "parallel", "relay", "route"}),
    "relay": frozenset({"cell"}),  # it needs tokens, and a decoder with U and V of its own
    "route": frozenset({"cell", "relay"}),  # it compares reconstructions, each on one grid
}
FEWEST = {"parallel": 1, "route": 2}  # branches


class Named(Protocol):
    """Cells and nodes by name, as a composition has them."""

    @property
    def output(self) -> str:
        """The node, or the cell, whose result is the model's."""
        ...

    @property
    def cells(self) -> Mapping[str, str]:
        """Alias to reference."""
        ...

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Name to node."""
        ...

    def kind(self, name: str) -> NodeKind:
        """What a name stands for."""
        ...

    def graph(self) -> nx.DiGraph:
        """Everything; an edge goes from what is read to who reads it."""
        ...


def of_structure(composition: Named) -> Iterator[str]:
    """What makes a composition impossible whatever its cells are."""
    graph = composition.graph()
    yield from _names(composition)
    yield from _branches(composition)
    yield from _nestings(composition)
    yield from _circles(graph)
    yield from _unused(composition, graph)


def of_cells(composition: Named, specs: Mapping[str, CellSpec], size: Size) -> Iterator[str]:
    """What makes cells of these specs, on images of this size, not go together."""
    yield from _inputs(composition, specs, size)
    yield from _relays(composition, specs, size)
    yield from _routes(composition, specs, size)


def _names(composition: Named) -> Iterator[str]:
    """Names that stand for two things, and names that stand for nothing."""
    for name in composition.nodes:
        if name in composition.cells:
            yield f"{name}: both a cell and a node"
    known = [*composition.cells, *composition.nodes]
    there = set(known)
    reads = [(f"{name}: {role}", read) for name, node in composition.nodes.items() for role, read in node.reads]
    unknown = [(where, name) for where, name in [*reads, ("output", composition.output)] if name not in there]
    for index, (where, name) in enumerate(unknown):
        guesses = difflib.get_close_matches(name[:MAX_NAME], known[:MAX_COMPARED], n=1) if index < MAX_GUESSES else []
        hint = f" (did you mean {guesses[0]}?)" if guesses else ""
        shown = name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}..."
        yield f"{where} {shown!r} is neither a cell nor a node{hint}"


def _branches(composition: Named) -> Iterator[str]:
    """Names given twice, and too few of them."""
    for name, node in composition.nodes.items():
        if node.kind == "relay":
            if node.source == node.target:
                yield f"{name}: source and target are both {node.source!r}"
            continue
        if len(node.of) < FEWEST[node.kind]:
            yield f"{name}: a {node.kind} takes {FEWEST[node.kind]} or more, of has {len(node.of)}"
        for read, count in Counter(node.of).items():
            if count > 1:
                yield f"{name}: of has {read!r} {count} times"


def _nestings(composition: Named) -> Iterator[str]:
    plain = composition.cells.keys() ^ composition.nodes.keys()  # of what is both, nobody knows which was meant
    for name, node in composition.nodes.items():
        for role, read in node.reads:
            kind = composition.kind(read)
            if read in plain and kind not in NESTS[node.kind]:
                taken = " or ".join(sorted(NESTS[node.kind]))
                yield f"{name}: {role} {read!r} is a {kind}, and a {node.kind} takes a {taken}"


def _circles(graph: nx.DiGraph) -> Iterator[str]:
    """Every node that reads itself, and one circle of each set that read one another: of those there may be too many."""
    alone = sorted(nx.nodes_with_selfloops(graph))
    yield from (f"{name}: in a circle, {name} reads itself" for name in alone)
    graph.remove_edges_from([(name, name) for name in alone])
    for members in sorted(nx.strongly_connected_components(graph), key=min):
        if len(members) > 1:
            circle = [read for read, _ in nx.find_cycle(graph.subgraph(members), min(members))][::-1]
            start = circle.index(min(circle))
            circle = [*circle[start:], *circle[: start + 1]]
            more = f", and so on: {len(circle) - 1} in all" if len(circle) > MAX_SHOWN else ""
            yield f"{circle[0]}: in a circle, {' reads '.join(circle[:MAX_SHOWN])}{more}"


def _unused(composition: Named, graph: nx.DiGraph) -> Iterator[str]:
    """What the output does not need; nothing can be said where the output is unknown."""
    if composition.output not in {*composition.cells, *composition.nodes}:
        return
    needed = nx.ancestors(graph, composition.output) | {composition.output}
    for name in [*composition.cells, *composition.nodes]:
        if name not in needed:
            yield f"{name}: unused, the output {composition.output!r} does not need this {composition.kind(name)}"


def _inputs(composition: Named, specs: Mapping[str, CellSpec], size: Size) -> Iterator[str]:
    """Cells that cannot take the same images, or not images of this size."""
    first = next(iter(composition.cells))
    for alias in composition.cells:
        if specs[alias].channels != specs[first].channels:
            yield f"{alias}: channels are {specs[alias].channels}, and {specs[first].channels} in {first!r}"
        if size is not None and not _divides(specs[alias], size):
            yield f"{alias}: an image of {size[0]} x {size[1]} is no multiple of {specs[alias].patch_size} pixels"


def _relays(composition: Named, specs: Mapping[str, CellSpec], size: Size) -> Iterator[str]:
    for name, node in composition.nodes.items():
        if node.kind != "relay":
            continue
        source, target = specs[node.source], specs[node.target]
        if source.D != target.D:
            yield f"{name}: D is {source.D} in {node.source!r}, and {target.D} in {node.target!r}"
        if node.tokens == "rows" and source.V != target.V:
            yield f"{name}: V is {source.V} in {node.source!r}, and {target.V} in {node.target!r}"
        if target.patch_size % source.patch_size:
            wrong = "coarser than" if source.patch_size > target.patch_size else "no multiple of"
            mine, theirs = _grids(source, target, size)
            yield f"{name}: the grid of {node.source!r}, {mine}, is {wrong} that of {node.target!r}, {theirs}"


def _routes(composition: Named, specs: Mapping[str, CellSpec], size: Size) -> Iterator[str]:
    """Branches that do not subdivide the coarsest one's grid; a relay lies on its target's."""
    for name, node in composition.nodes.items():
        if node.kind != "route":
            continue
        decoders = {read: _decoder(composition, read) for read in node.of}
        coarsest = max(node.of, key=lambda read: specs[decoders[read]].patch_size)
        for read in node.of:
            mine, theirs = specs[decoders[read]], specs[decoders[coarsest]]
            if theirs.patch_size % mine.patch_size:
                own, whole = _grids(mine, theirs, size)
                words = [repr(x) if decoders[x] == x else f"{x!r}, decoded by {decoders[x]!r}" for x in (read, coarsest)]
                yield f"{name}: the grid of {words[0]}, {own}, does not nest in that of {words[1]}, {whole}"


def _decoder(composition: Named, name: str) -> str:
    """Cell that makes the reconstruction of a branch."""
    node = composition.nodes.get(name)
    return node.target if node is not None and node.kind == "relay" else name


def _divides(spec: CellSpec, size: tuple[int, int]) -> bool:
    try:
        spec.grid(*size)
    except InputError:
        return False
    return True


def _grids(mine: CellSpec, theirs: CellSpec, size: Size) -> tuple[str, str]:
    """Two grids in words. They nest where one patch divides the other, whatever the image."""
    if size is None or not _divides(mine, size) or not _divides(theirs, size):
        return f"patches of {mine.patch_size} pixels", f"patches of {theirs.patch_size} pixels"
    (a, b), (c, d) = mine.grid(*size), theirs.grid(*size)
    return f"{a} x {b} patches", f"{c} x {d} patches"
