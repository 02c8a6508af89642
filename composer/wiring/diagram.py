"""Drawing of a composition: self-contained SVG, with cells at the left and the output at the right.

Every column is a generation, which reads only earlier columns. An arrow across several columns runs in its own lane between the
boxes, so that nothing is drawn through a box. Equal compositions give equal bytes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from xml.etree import ElementTree as ET  # used for writing only

from composer.wiring.composition import Composition
from composer.wiring.nodes import Parallel, Relay, Role, Route

WIDTH, HEIGHT, STACK = 190, 44, 8  # of a box, and the amount by which a box of many cells is wider and higher
GAP, SPACE, LANE = 96, 14, 4  # between columns, between boxes of a column, and height of a lane
MARGIN, EXIT = 24, 76  # around the drawing, and for the word "output"
PORTS = {"of": 0, "source": -9, "target": 9}  # height at which an arrow arrives, from the middle of the box
NAME, SMALL = 23, 28  # characters that fit a box, in each font size
CROWD = 24  # cells; a larger number that feeds the same nodes is drawn as one box
LISTED = 10  # names in a title
MAX_DETOURS = 20_000  # columns crossed in lanes by all arrows; beyond it arrows run straight, behind the boxes

STYLE = """
.composition text{font:12px ui-monospace,monospace;fill:#1f2328}
.composition .small{font-size:10px;fill:#57606a}
.composition .role{paint-order:stroke;stroke:#fff;stroke-width:4px}
.composition rect{stroke:#57606a;fill:#f1ecfb}
.composition .cell rect{fill:#e6f0ff}
.composition .relay rect{fill:#fff2d1}
.composition .route rect{fill:#e3f5e6}
.composition .output rect{stroke-width:3}
.composition path{fill:none;stroke:#57606a}
.composition .head{fill:#57606a;stroke:none}
.composition .paper{fill:#fff;stroke:none}
@media (prefers-color-scheme:dark){
.composition text{fill:#e6edf3}
.composition .small{fill:#9da7b3}
.composition .role{stroke:#0d1117}
.composition rect{stroke:#9da7b3;fill:#2e2640}
.composition .cell rect{fill:#16294a}
.composition .relay rect{fill:#3d3010}
.composition .route rect{fill:#14361d}
.composition path{stroke:#9da7b3}
.composition .head{fill:#9da7b3}
.composition .paper{fill:#0d1117}
}
"""

Point = tuple[float, float]
Stop = tuple[str, int]  # a box, in its own column; its lane, in a later column


@dataclass(frozen=True)
class Box:
    """One node, one cell, or many cells that feed the same nodes.

    Attributes:
        names: Names of the cells or the node.
        x: Left edge.
        y: Upper edge.
        width: Width, including the boxes stacked behind.
        height: Height, including the boxes stacked behind.
    """

    names: tuple[str, ...]
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Arrow:
    """Arrow from a box to a node that reads it.

    Attributes:
        source: First name of the box that is read.
        target: Name of the reader.
        role: Role in which the reader uses the source.
        points: Points from box to box, joined in turn by curves and straight lines, beginning with a curve.
    """

    source: str
    target: str
    role: Role
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Layout:
    """Positions of all boxes and arrows, in pixels.

    Attributes:
        boxes: Boxes by first name.
        arrows: Arrows between boxes.
        width: Width of the drawing.
        height: Height of the drawing.
    """

    boxes: dict[str, Box]
    arrows: tuple[Arrow, ...]
    width: float
    height: float


def draw(composition: Composition) -> str:
    """Draw a composition as an SVG image: one box per cell or node, with arrows from inputs to readers.

    More than 24 cells that feed the same nodes share one box. The SVG has no scripts and no external references.

    >>> import composer
    >>> composition = composer.Composition.parallel({"noise": "low/johanna-64", "photo": "low/fresnel-64"})
    >>> composer.draw(composition)[:4]
    '<svg'
    """
    plan = layout(composition)
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "composition", "role": "img"})
    svg.attrib |= {"width": _place(plan.width), "height": _place(plan.height)}
    svg.set("viewBox", f"0 0 {svg.get('width')} {svg.get('height')}")
    _add(svg, "title", f"{len(composition.cells):,} cells and {len(composition.nodes):,} nodes to {composition.output}")
    _add(svg, "style", STYLE)
    marker = {"id": "arrowhead", "viewBox": "0 0 8 8", "refX": "8", "refY": "4", "markerWidth": "8", "markerHeight": "8"}
    head = _add(_add(svg, "defs"), "marker", orient="auto", **marker)
    _add(head, "path", class_="head", d="M0 0 8 4 0 8z")
    _add(svg, "rect", class_="paper", width=svg.get("width"), height=svg.get("height"))
    for arrow in plan.arrows:
        _draw_arrow(svg, arrow, plan)
    for box in plan.boxes.values():
        _draw_box(svg, box, composition)
    _draw_exit(svg, next(box for box in plan.boxes.values() if composition.output in box.names))
    return ET.tostring(svg, encoding="unicode") + "\n"


def layout(composition: Composition) -> Layout:
    """Place the boxes and arrows of a composition."""
    plan = _Plan(composition)
    centres = plan.centres
    boxes = {}
    for name, members in plan.members.items():
        stop = (name, plan.column[name])
        height = plan.height(stop)
        width = WIDTH + (STACK if len(members) > 1 else 0)
        boxes[name] = Box(tuple(members), plan.left(stop[1]), centres[stop] - height / 2, width, height)
    arrows = [Arrow(read, name, role, plan.way(read, name, role)) for name in plan.reads for role, read in plan.reads[name]]
    return Layout(boxes, tuple(arrows), plan.left(len(plan.columns)) - GAP + EXIT + MARGIN, plan.tallest + 2 * MARGIN)


class _Plan:
    """Assignment of boxes and arrows to columns, and their order and heights."""

    def __init__(self, composition: Composition) -> None:
        owner = _owners(composition)
        self.members: dict[str, list[str]] = defaultdict(list)
        for name, first in owner.items():
            self.members[first].append(name)
        generations = composition.generations
        self.column = {name: index for index, names in enumerate(generations) for name in names}
        self.reads = {
            name: list(dict.fromkeys((role, owner[read]) for role, read in composition.nodes[name].reads))
            for name in composition.order
        }
        self.relays = {name for name, node in composition.nodes.items() if isinstance(node, Relay)}
        spans = [self.column[name] - self.column[read] - 1 for name in self.reads for _, read in self.reads[name]]
        self.has_lanes = sum(spans) <= MAX_DETOURS

    @cached_property
    def columns(self) -> list[list[Stop]]:
        """Boxes of every column, and lanes of the arrows that cross it."""
        last = dict(self.column)
        for name, reads in self.reads.items():
            for _, read in reads:
                last[read] = max(last[read], self.column[name] - 1 if self.has_lanes else 0)
        columns: list[list[Stop]] = [[] for _ in range(max(self.column.values()) + 1)]
        for name in self.members:
            for index in range(self.column[name], last[name] + 1):
                columns[index].append((name, index))
        return columns

    @cached_property
    def tallest(self) -> float:
        """Height of the tallest column."""
        return max(self._tall(stops) for stops in self.columns)

    @cached_property
    def centres(self) -> dict[Stop, float]:
        """Middle of every box and lane, near the height of its inputs, so that arrows are level and few cross."""
        centres: dict[Stop, float] = {}
        for index, stops in enumerate(self.columns):
            room = self.tallest - self._tall(stops)
            wanted = {stop: self._wanted(stop, centres) if index else MARGIN + self.tallest / 2 for stop in stops}
            ordered = sorted(stops, key=lambda stop: (wanted[stop], stop)) if index else stops
            heights = [self.height(stop) for stop in ordered]
            above = [0, *accumulate(height + SPACE for height in heights)]
            tops = _rising([wanted[stop] - h / 2 - before for stop, h, before in zip(ordered, heights, above, strict=False)])
            for stop, height, before, top in zip(ordered, heights, above, tops, strict=False):
                centres[stop] = min(MARGIN + room, max(MARGIN, top)) + before + height / 2
        return centres

    def height(self, stop: Stop) -> float:
        """Return the height of a box or a lane."""
        name, index = stop
        if index > self.column[name]:
            return LANE
        return HEIGHT + (STACK if len(self.members[name]) > 1 else 0)

    def left(self, column: int) -> float:
        """Return the left edge of a column."""
        return MARGIN + column * (WIDTH + STACK + GAP)

    def way(self, read: str, name: str, role: Role) -> tuple[Point, ...]:
        """Return the points of an arrow."""
        start, end = self.column[read], self.column[name]
        wide = WIDTH + (STACK if len(self.members[read]) > 1 else 0)
        points = [(self.left(start) + wide, self.centres[read, start])]
        for index in range(start + 1, end if self.has_lanes else 0):
            y = self.centres[read, index]
            points += [(self.left(index), y), (self.left(index) + WIDTH + STACK, y)]
        return (*points, (self.left(end), self.centres[name, end] + PORTS[role]))

    def _wanted(self, stop: Stop, centres: dict[Stop, float]) -> float:
        """Return the mean height of a box's inputs, or the height of the lane that is continued."""
        name, index = stop
        if index > self.column[name]:
            return centres[name, index - 1]
        reads = self.reads[name]
        return sum(centres[read, index - 1 if self.has_lanes else self.column[read]] for _, read in reads) / len(reads)

    def _tall(self, stops: list[Stop]) -> float:
        return sum(self.height(stop) + SPACE for stop in stops) - SPACE


def _rising(values: list[float]) -> list[float]:
    """Fit the nearest non-decreasing sequence (isotonic regression): decreasing neighbours are replaced by their mean.

    >>> _rising([1.0, 4.0, 2.0, 5.0])
    [1.0, 3.0, 3.0, 5.0]
    """
    pools: list[tuple[float, int]] = []  # sum and count
    for value in values:
        total, count = value, 1
        while pools and pools[-1][0] / pools[-1][1] >= total / count:
            more, others = pools.pop()
            total, count = total + more, count + others
        pools.append((total, count))
    return [total / count for total, count in pools for _ in range(count)]


def _owners(composition: Composition) -> dict[str, str]:
    """Map every name, in reading order, to the first name of its box."""
    graph, order = composition.graph(), composition.order
    read = dict.fromkeys(read for name in order for _, read in composition.nodes[name].reads)
    cells = [name for name in [*read, composition.output] if name in composition.cells]
    alike = defaultdict(list)
    for cell in cells:
        alike[frozenset((reader, role) for _, reader, role in graph.out_edges(cell, data="role"))].append(cell)
    owners = dict(zip([*cells, *order], [*cells, *order], strict=True))
    for crowd in alike.values():
        if len(crowd) > CROWD:
            owners |= dict.fromkeys(crowd, crowd[0])
    return owners


def _draw_arrow(svg: ET.Element, arrow: Arrow, plan: Layout) -> None:
    group = _add(svg, "g", class_="arrow")
    members = plan.boxes[arrow.source].names
    source = arrow.source if len(members) == 1 else f"{len(members):,} cells"
    _add(group, "title", f"{source} \N{RIGHTWARDS ARROW} {arrow.target} ({arrow.role})")
    _add(group, "path", d=_path(arrow.points), marker_end="url(#arrowhead)")


def _draw_box(svg: ET.Element, box: Box, composition: Composition) -> None:
    kind = composition.kind(box.names[0])
    group = _add(svg, "g", class_=f"{kind} output" if composition.output in box.names else kind)
    heading, line, title = _words(box, composition)
    _add(group, "title", title)
    for shift in (STACK, STACK / 2, 0) if len(box.names) > 1 else (0,):
        _add(group, "rect", x=box.x + shift, y=box.y + shift, width=WIDTH, height=HEIGHT, rx=6)
    _add(group, "text", _short(heading, NAME), x=box.x + 10, y=box.y + 19)
    _add(group, "text", _short(line, SMALL), class_="small", x=box.x + 10, y=box.y + 35)
    for role in (
        ("source", "target") if kind == "relay" else ()
    ):  # beside its arrow, drawn after all arrows; branches need no label
        y = box.y + box.height / 2 + PORTS[role] - 3
        _add(group, "text", role, class_="small role", x=box.x - 12, y=y, text_anchor="end")


def _draw_exit(svg: ET.Element, box: Box) -> None:
    x, y = box.x + box.width, box.y + box.height / 2
    _add(svg, "path", d=_path(((x, y), (x + 26, y))), marker_end="url(#arrowhead)")
    _add(svg, "text", "output", x=x + 31, y=y + 4)


def _words(box: Box, composition: Composition) -> tuple[str, str, str]:
    """Return heading, second line and title of a box."""
    name = box.names[0]
    if len(box.names) > 1:
        rows = [f"{cell}: {composition.cells[cell]}" for cell in box.names[:LISTED]]
        heading = f"{len(box.names):,} cells"
        return heading, f"{name} and {len(box.names) - 1:,} others", "\n".join([heading, *rows, *_rest(box.names)])
    if name in composition.cells:
        return name, composition.cells[name], f"{name}: {composition.cells[name]}"
    node = composition.nodes[name]
    match node:
        case Parallel():
            line = f"parallel of {len(node.of):,}"
        case Relay():
            line = f"relay of {node.tokens}"
        case Route():
            line = f"route by {node.by}"
    reads = [read for _, read in node.reads]
    return name, line, "\n".join([f"{name}: {line}", *reads[:LISTED], *_rest(reads)])


def _rest(names: list[str] | tuple[str, ...]) -> list[str]:
    return [f"and {len(names) - LISTED:,} more"] if len(names) > LISTED else []


def _path(points: tuple[Point, ...]) -> str:
    """Draw curves that leave and arrive horizontally between columns, and straight lines across columns."""
    parts = [f"M{_place(points[0][0])} {_place(points[0][1])}"]
    for (x0, y0), (x1, y1) in zip(points[::2], points[1::2], strict=True):
        middle = (x0 + x1) / 2
        parts.append(f"L{_place(x0)} {_place(y0)}")
        parts.append(f"C{_place(middle)} {_place(y0)} {_place(middle)} {_place(y1)} {_place(x1)} {_place(y1)}")
    return " ".join(parts)


def _add(parent: ET.Element, tag: str, text: str = "", **attributes: object) -> ET.Element:
    """Add an element to another. ``_`` in an attribute's name stands for ``-``; a trailing one is dropped."""
    pairs = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    element = ET.SubElement(parent, tag, {key: _place(v) if isinstance(v, float) else str(v) for key, v in pairs.items()})
    element.text = _plain(text)
    return element


def _short(text: str, most: int) -> str:
    """Replace the middle of a long text by an ellipsis, since names differ at their ends.

    >>> _short("low/fresnel-256", 9)
    'low/\N{HORIZONTAL ELLIPSIS}-256'
    """
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}\N{HORIZONTAL ELLIPSIS}{text[-half:]}"


def _plain(text: str) -> str:
    """Replace characters that XML cannot hold, or that could change the direction of text."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def _place(value: float) -> str:
    """Format a coordinate to a tenth."""
    return f"{value:.1f}"
