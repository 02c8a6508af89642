"""Validation of a composition: faults as text, which :mod:`composer.wiring.composition` raises together."""

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

MAX_SHOWN = 50  # members of a cycle in a message
MAX_GUESSES = 12  # suggestions, each among MAX_COMPARED names, to keep them within a second
MAX_COMPARED = 1000

Size = tuple[int, int] | None

NESTS: dict[str, frozenset[NodeKind]] = {
    "parallel": frozenset({"cell", "parallel", "relay", "route"}),
    "relay": frozenset({"cell"}),  # needs the source's tokens, and the target's decoder, U and V
    "route": frozenset({"cell", "relay"}),  # compares reconstructions, each on one grid
}
FEWEST = {"parallel": 1, "route": 2}  # branches


class Named(Protocol):
    """Cells and nodes by name: the part of a composition that validation reads."""

    @property
    def output(self) -> str:
        """Name of the node or cell whose result the model returns."""
        ...

    @property
    def cells(self) -> Mapping[str, str]:
        """Cell references by alias."""
        ...

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Nodes by name."""
        ...

    def kind(self, name: str) -> NodeKind:
        """Return the kind of a node, or ``cell`` for a cell."""
        ...

    def graph(self) -> nx.DiGraph:
        """Return a graph of cells and nodes with edges from input to reader."""
        ...


def of_structure(composition: Named) -> Iterator[str]:
    """Yield faults that do not depend on the cells' specs."""
    graph = composition.graph()
    yield from _names(composition)
    yield from _branches(composition)
    yield from _nestings(composition)
    yield from _circles(graph)
    yield from _unused(composition, graph)


def of_cells(composition: Named, specs: Mapping[str, CellSpec], size: Size) -> Iterator[str]:
    """Yield incompatibilities of cells with these specs, on images of this size."""
    yield from _inputs(composition, specs, size)
    yield from _relays(composition, specs, size)
    yield from _routes(composition, specs, size)


def _names(composition: Named) -> Iterator[str]:
    """Yield names of both a cell and a node, and unknown names."""
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
    """Yield duplicate branches, and nodes with too few."""
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
    plain = composition.cells.keys() ^ composition.nodes.keys()  # names of both a cell and a node are ambiguous
    for name, node in composition.nodes.items():
        for role, read in node.reads:
            kind = composition.kind(read)
            if read in plain and kind not in NESTS[node.kind]:
                taken = " or ".join(sorted(NESTS[node.kind]))
                yield f"{name}: {role} {read!r} is a {kind}, and a {node.kind} takes a {taken}"


def _circles(graph: nx.DiGraph) -> Iterator[str]:
    """Yield every node that reads itself, and one cycle of each strongly connected set, which may have very many."""
    alone = sorted(nx.nodes_with_selfloops(graph))
    yield from (f"{name}: in a cycle, {name} reads itself" for name in alone)
    graph.remove_edges_from([(name, name) for name in alone])
    for members in sorted(nx.strongly_connected_components(graph), key=min):
        if len(members) > 1:
            circle = [read for read, _ in nx.find_cycle(graph.subgraph(members), min(members))][::-1]
            start = circle.index(min(circle))
            circle = [*circle[start:], *circle[: start + 1]]
            more = f", and so on: {len(circle) - 1} in all" if len(circle) > MAX_SHOWN else ""
            yield f"{circle[0]}: in a cycle, {' reads '.join(circle[:MAX_SHOWN])}{more}"


def _unused(composition: Named, graph: nx.DiGraph) -> Iterator[str]:
    """Yield cells and nodes that the output does not need, if the output is known."""
    if composition.output not in {*composition.cells, *composition.nodes}:
        return
    needed = nx.ancestors(graph, composition.output) | {composition.output}
    for name in [*composition.cells, *composition.nodes]:
        if name not in needed:
            yield f"{name}: unused, the output {composition.output!r} does not need this {composition.kind(name)}"


def _inputs(composition: Named, specs: Mapping[str, CellSpec], size: Size) -> Iterator[str]:
    """Yield cells with different channels, or whose patches do not divide images of this size."""
    first = next(iter(composition.cells))
    for alias in composition.cells:
        if specs[alias].channels != specs[first].channels:
            yield f"{alias}: channels are {specs[alias].channels}, and {specs[first].channels} in {first!r}"
        if size is not None and not _divides(specs[alias], size):
            yield f"{alias}: an image of {size[0]} x {size[1]} is not a multiple of {specs[alias].patch_size} pixels"


def _relays(composition: Named, specs: Mapping[str, CellSpec], size: Size) -> Iterator[str]:
    for name, node in composition.nodes.items():
        if node.kind != "relay":
            continue
        source, target = specs[node.source], specs[node.target]
        if source.D != target.D:
            yield f"{name}: D is {source.D} in {node.source!r}, and {target.D} in {node.target!r}"
        if node.tokens == "omega" and target.readout != "svd":
            yield f"{name}: {node.target!r} decodes no omega, only rows, as its readout is {target.readout}"
        if node.tokens == "rows" and source.V != target.V:
            yield f"{name}: V is {source.V} in {node.source!r}, and {target.V} in {node.target!r}"
        if target.patch_size % source.patch_size:
            wrong = "coarser than" if source.patch_size > target.patch_size else "not a multiple of"
            mine, theirs = _grids(source, target, size)
            yield f"{name}: the grid of {node.source!r}, {mine}, is {wrong} that of {node.target!r}, {theirs}"


def _routes(composition: Named, specs: Mapping[str, CellSpec], size: Size) -> Iterator[str]:
    """Yield branches whose grid does not subdivide the coarsest one; a relay has the grid of its target."""
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
    """Return the cell that decodes a branch."""
    node = composition.nodes.get(name)
    return node.target if node is not None and node.kind == "relay" else name


def _divides(spec: CellSpec, size: tuple[int, int]) -> bool:
    try:
        spec.grid(*size)
    except InputError:
        return False
    return True


def _grids(mine: CellSpec, theirs: CellSpec, size: Size) -> tuple[str, str]:
    """Describe two grids, by patch size if the image size is unknown or not a multiple of both."""
    if size is None or not _divides(mine, size) or not _divides(theirs, size):
        return f"patches of {mine.patch_size} pixels", f"patches of {theirs.patch_size} pixels"
    (a, b), (c, d) = mine.grid(*size), theirs.grid(*size)
    return f"{a} x {b} patches", f"{c} x {d} patches"
