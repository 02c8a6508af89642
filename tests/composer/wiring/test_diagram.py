"""Drawings of compositions: everything is there, nothing overlaps, and no text is more than text."""

from itertools import combinations
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batteries.io.canonical_json import load_document
from composer import Composition, Parallel, Relay, draw
from composer.wiring.diagram import CROWD, EXIT, NAME, SMALL, layout
from tests.composer.wiring.test_composition import EXAMPLE, compositions

SVG = "{http://www.w3.org/2000/svg}"


def crowded(cells, **nodes):
    """So many cells, and a parallel of some nodes that read them."""
    named = {f"c{i:04d}": f"high/cell-{i}" for i in range(cells)}
    nodes = {name: node(list(named)) for name, node in nodes.items()}
    nodes["out"] = Parallel(of=(*nodes, *named))
    return Composition(schema_version="1.0", output="out", cells=named, nodes=nodes)


def chain(length):
    """Every node reads the one before and a cell of its own: half of the arrows pass many columns."""
    cells = {f"c{i}": "high/a" for i in range(length)}
    nodes = {f"n{i}": Parallel(of=(f"c{i}", *([f"n{i - 1}"] if i else []))) for i in range(length)}
    return Composition(schema_version="1.0", output=f"n{length - 1}", cells=cells, nodes=nodes)


DRAWN = {
    "example": Composition.from_toml(EXAMPLE, where="x"),
    "one cell": Composition(schema_version="1.0", output="a", cells={"a": "low/a"}),
    "one node": Composition.parallel({"a": "low/a"}),
    "a crowd": Composition.parallel({f"c{i}": "low/a" for i in range(1000)}),
    "no crowd": Composition.parallel({f"c{i}": "low/a" for i in range(CROWD)}),
    "a crowd and others": crowded(60, a=lambda c: Parallel(of=tuple(c[:30])), b=lambda c: Relay(source=c[0], target=c[1])),
    "a chain": chain(30),
    "a long chain": chain(300),
}


def overlaps(a, b):
    return a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.y + b.height and b.y < a.y + a.height


def check(composition):
    """The layout of a composition, after the arithmetic that all of them pass."""
    plan = layout(composition)
    boxes = list(plan.boxes.values())
    assert sorted(name for box in boxes for name in box.names) == sorted([*composition.cells, *composition.nodes])
    assert not [(a.names, b.names) for a, b in combinations(boxes, 2) if overlaps(a, b)]
    assert min(min(box.x, box.y) for box in boxes) > 0
    assert max(box.x + box.width for box in boxes) + EXIT <= plan.width
    assert max(box.y + box.height for box in boxes) < plan.height
    edges = {(name, arrow.target, arrow.role) for arrow in plan.arrows for name in plan.boxes[arrow.source].names}
    assert edges == set(composition.graph().edges(data="role"))
    for arrow in plan.arrows:
        source, target = plan.boxes[arrow.source], plan.boxes[arrow.target]
        (x0, y0), (x1, y1) = arrow.points[0], arrow.points[-1]
        assert (x0, x1) == (source.x + source.width, target.x)
        assert source.y < y0 < source.y + source.height
        assert target.y < y1 < target.y + target.height
    return plan


def crossed(plan):
    """Arrows with a box in their way: a curve keeps within the points at its ends, as a straight line does."""
    for arrow in plan.arrows:
        for (x0, y0), (x1, y1) in zip(arrow.points, arrow.points[1:], strict=False):
            top, bottom = sorted((y0, y1))
            for box in plan.boxes.values():
                if x0 < box.x + box.width and box.x < x1 and top < box.y + box.height and box.y < bottom:
                    yield arrow, box


@pytest.mark.slow
@given(compositions())
def test_nothing_overlaps_and_no_edge_is_missing(composition):
    assert list(crossed(check(composition))) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
def test_the_drawings(name):
    composition = DRAWN[name]
    plan = check(composition)
    assert name == "a long chain" or list(crossed(plan)) == []
    root = ET.fromstring(draw(composition))
    assert root.tag == f"{SVG}svg"
    groups = [(group.get("class").split(), group) for group in root.iter(f"{SVG}g")]
    assert sum(classes == ["arrow"] for classes, _ in groups) == len(plan.arrows)
    assert sum(classes != ["arrow"] for classes, _ in groups) == len(plan.boxes)
    assert [group.find(f"{SVG}title").text.split(":")[0] for classes, group in groups if "output" in classes] == [
        composition.output
    ]
    arrowheads = [path for path in root.iter(f"{SVG}path") if path.get("marker-end") == "url(#arrowhead)"]
    assert len(arrowheads) == len(plan.arrows) + 1


def test_columns_are_generations():
    composition = DRAWN["example"]
    plan = layout(composition)
    lefts = [{plan.boxes[name].x for name in names} for names in composition.generations]
    assert [len(xs) for xs in lefts] == [1] * len(lefts)
    assert sorted(lefts, key=min) == lefts


def test_words_and_roles():
    root = ET.fromstring(draw(DRAWN["example"]))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    for words in (
        "noise",
        "high/johanna-64@1.0.0",
        "relay of omega",
        "route by error",
        "parallel of 3",
        "source",
        "target",
        "output",
    ):
        assert texts.count(words) == 1
    titles = {title.text for title in root.iter(f"{SVG}title")}
    assert {
        "3 cells and 3 nodes to all",
        "noise \N{RIGHTWARDS ARROW} swap (source)",
        "routed: route by error\nswap\nphoto",
    } <= titles


@pytest.mark.slow
@given(compositions(), st.randoms())
def test_equal_compositions_are_drawn_alike(composition, random):
    shuffled = composition.model_dump()
    for key in ("cells", "nodes"):
        rows = list(shuffled[key].items())
        random.shuffle(rows)
        shuffled[key] = dict(rows)
    again = Composition.model_validate(shuffled)
    assert draw(again) == draw(composition) == draw(load_document(Composition, again.to_bytes(), where="x", limit=2**20))


HOSTILE = [
    "<script>alert(1)</script>",
    "\"' onload='x",
    "]]></svg><a href=x>",
    "&amp;&#0;",
    "\x00\x1b[2J\u202e\ufffe",
    "a\nb",
    "http://x",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_references_are_text(text):
    drawing = draw(Composition.parallel({"a": text, "b": text * 40}))
    root = ET.fromstring(drawing)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        *("svg", "title", "style", "defs", "marker", "path", "rect", "g", "text")
    }
    attributes = {name for element in root.iter() for name in element.attrib}
    assert not any(name.startswith("on") or "href" in name for name in attributes)
    (title,) = [title.text for title in root.iter(f"{SVG}title") if title.text.startswith("a: ")]
    assert title == "a: " + "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)
    for code in (0, 0x1B, 0x202E, 0xFFFE):
        assert chr(code) not in drawing


def test_nothing_outside_is_named():
    drawing = draw(DRAWN["example"])
    assert drawing.count("http") == 1  # the namespace
    assert drawing.count("url(") == drawing.count("url(#arrowhead)")
    assert "@import" not in drawing


def test_long_texts_are_shortened_and_whole_in_the_title():
    name = "a" * 60 + "/" + "b" * 60
    root = ET.fromstring(draw(Composition.parallel({name: "c" * 100})))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert max(len(text) for text in texts) <= max(NAME, SMALL)
    assert "a" * 11 + "\N{HORIZONTAL ELLIPSIS}" + "b" * 11 in texts
    assert f"{name}: {'c' * 100}" in [title.text for title in root.iter(f"{SVG}title")]


def test_cells_that_feed_the_same_are_one_box():
    composition = DRAWN["a crowd and others"]  # 0 and 1 feed a relay too, 2 to 29 two parallels, 30 to 59 one
    crowds = [box.names for box in layout(composition).boxes.values() if len(box.names) > 1]
    assert sorted(map(len, crowds)) == [28, 30]
    titles = [title.text for title in ET.fromstring(draw(composition)).iter(f"{SVG}title")]
    assert "30 cells \N{RIGHTWARDS ARROW} out (of)" in titles
    (listed,) = [title for title in titles if title.startswith("30 cells\n")]
    assert listed.startswith("30 cells\nc0030: high/cell-30\nc0031: high/cell-31\n")
    assert listed.endswith("c0039: high/cell-39\nand 20 more")


def test_a_thousand_cells_are_a_small_drawing():
    assert len(draw(DRAWN["a crowd"])) < 4000
    assert len(layout(DRAWN["a crowd"]).boxes) == 2


def test_very_many_long_arrows_run_straight():
    assert max(len(arrow.points) for arrow in layout(DRAWN["a chain"]).arrows) > 2
    assert {len(arrow.points) for arrow in layout(DRAWN["a long chain"]).arrows} == {2}
