"""A composition as a diagram in text: Mermaid, which GitHub and the Hub draw in Markdown, or DOT for Graphviz.

Nodes stand in generations, each after what it reads. The same composition gives the same text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from batteries.errors import InputError
from composer.wiring.composition import Composition
from composer.wiring.nodes import Parallel, Relay, Role

Syntax = Literal["mermaid", "dot"]

CROWD = 24  # cells: more that feed the same nodes are drawn as one node
LONGEST = 60  # characters of a line

_MERMAID_SHAPES = {"cell": ("([", "])"), "relay": ("[/", "/]"), "route": ("{{", "}}"), "parallel": ("[", "]")}
_DOT_SHAPES = {"cell": "ellipse", "relay": "parallelogram", "route": "hexagon", "parallel": "box"}
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-./,:@^+=")


@dataclass(frozen=True)
class _Node:
    """A node of the diagram: a node, a cell, or many cells that feed the same nodes."""

    id: str
    kind: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Edge:
    source: str
    target: str
    role: Role

    @property
    def label(self) -> str:
        """Role of what is read; a branch needs no word."""
        return "" if self.role == "of" else self.role


@dataclass(frozen=True)
class _Graph:
    nodes: Sequence[_Node]
    edges: Sequence[_Edge]
    output: str


def draw(composition: Composition, syntax: Syntax = "mermaid") -> str:
    """Return a composition as a diagram in text: a node each, with an arrow from what is read to its reader.

    More than 24 cells that feed the same nodes are drawn as one node.

    Args:
        composition: Composition to draw.
        syntax: ``mermaid``, or ``dot`` for Graphviz.

    Raises:
        InputError: another syntax (``SYNTAX``).

    >>> from composer import Composition, draw
    >>> print(draw(Composition.parallel({"noise": "high/johanna-64"})), end="")
    flowchart LR
      n0(["noise<br>high/johanna-64"])
      n1["all<br>parallel of 1"]
      output(("output"))
      n0 --> n1
      n1 --> output
    """
    if syntax not in get_args(Syntax):
        raise InputError("unknown syntax", code="SYNTAX", expected=" | ".join(get_args(Syntax)), found=syntax)
    graph = _graph(composition)
    lines = _mermaid(graph) if syntax == "mermaid" else _dot(graph)
    return "".join(f"{line}\n" for line in lines)


def _mermaid(graph: _Graph) -> Iterator[str]:
    yield "flowchart LR"
    for node in graph.nodes:
        left, right = _MERMAID_SHAPES[node.kind]
        yield f'  {node.id}{left}"{"<br>".join(map(_mermaid_text, node.lines))}"{right}'
    yield '  output(("output"))'
    for edge in graph.edges:
        arrow = f"-->|{edge.label}|" if edge.label else "-->"
        yield f"  {edge.source} {arrow} {edge.target}"
    yield f"  {graph.output} --> output"


def _dot(graph: _Graph) -> Iterator[str]:
    yield "digraph composition {"
    yield "  rankdir=LR;"
    yield '  node [fontname="monospace"];'
    for node in graph.nodes:
        label = "\\n".join(map(_dot_text, node.lines))
        yield f'  {node.id} [label="{label}", shape={_DOT_SHAPES[node.kind]}];'
    yield "  output [shape=plaintext];"
    for edge in graph.edges:
        label = f' [label="{edge.label}"]' if edge.label else ""
        yield f"  {edge.source} -> {edge.target}{label};"
    yield f"  {graph.output} -> output;"
    yield "}"


def _graph(composition: Composition) -> _Graph:
    owners = _owners(composition)
    members: dict[str, list[str]] = defaultdict(list)
    for name, first in owners.items():
        members[first].append(name)
    ids = {name: f"n{index}" for index, name in enumerate(members)}
    nodes = [_Node(ids[name], composition.kind(name), _lines(all_of, composition)) for name, all_of in members.items()]
    edges = [
        _Edge(ids[owners[read]], ids[name], role) for name in composition.order for role, read in composition.nodes[name].reads
    ]
    return _Graph(nodes, list(dict.fromkeys(edges)), ids[owners[composition.output]])


def _owners(composition: Composition) -> dict[str, str]:
    """Map each name, in the order of reading, to the first name of the node that it is drawn in."""
    graph, order = composition.graph(), composition.order
    read = dict.fromkeys(read for name in order for _, read in composition.nodes[name].reads)
    cells = [name for name in dict.fromkeys([*read, composition.output]) if name in composition.cells]
    alike = defaultdict(list)
    for cell in cells:
        alike[frozenset((reader, role) for _, reader, role in graph.out_edges(cell, data="role"))].append(cell)
    owners = {name: name for name in [*cells, *order]}
    for crowd in alike.values():
        if len(crowd) > CROWD:
            owners |= dict.fromkeys(crowd, crowd[0])
    return owners


def _lines(names: Sequence[str], composition: Composition) -> tuple[str, ...]:
    """Return the lines of a node's label."""
    name = names[0]
    if len(names) > 1:
        return _fitted((f"{len(names):,} cells", f"{name} and {len(names) - 1:,} others"))
    if name in composition.cells:
        return _fitted((name, composition.cells[name]))
    match composition.nodes[name]:
        case Parallel() as node:
            line = f"parallel of {len(node.of):,}"
        case Relay() as node:
            line = f"relay of {node.tokens}"
        case node:
            line = f"route by {node.by}"
    return _fitted((name, line))


def _fitted(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(_short(_visible(line)) for line in lines)


def _visible(text: str) -> str:
    """Replace control characters, such as those that change the direction of text."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _short(text: str) -> str:
    """Leave out the middle of a long text: names differ at their ends."""
    half = (LONGEST - 1) // 2
    return text if len(text) <= LONGEST else f"{text[:half]}\N{HORIZONTAL ELLIPSIS}{text[-half:]}"


def _mermaid_text(text: str) -> str:
    """Write all but plain characters as Mermaid's entities, so that a text can neither end a label nor be markup.

    >>> _mermaid_text('a"]<b>')
    'a#34;#93;#60;b#62;'
    """
    return "".join(char if char in _PLAIN else f"#{ord(char)};" for char in text)


def _dot_text(text: str) -> str:
    r"""Escape a text for a quoted string of DOT, in which Graphviz also reads entities of HTML.

    >>> print(_dot_text('a"\\N&lt;'))
    a\"\\N&amp;lt;
    """
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
