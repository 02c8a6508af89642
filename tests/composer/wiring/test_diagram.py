"""Diagrams of compositions: all nodes and edges are there, and no text is more than text."""

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batteries import InputError
from batteries.io.canonical_json import load_document
from composer import Composition, Parallel, Relay, draw
from composer.wiring.diagram import CROWD, LONGEST
from tests.composer.wiring.test_composition import EXAMPLE, compositions

SYNTAXES = ("mermaid", "dot")
MERMAID_NODE = re.compile(r'  (\w+)(\(\[|\[/|\{\{|\[|\(\()"([^"]*)"(\]\)|/\]|\}\}|\]|\)\))')
MERMAID_EDGE = re.compile(r"  (\w+) -->(?:\|(\w+)\|)? (\w+)")
DOT_NODE = re.compile(r'  (n\d+) \[label="((?:[^"\\]|\\.)*)", shape=(\w+)\];')
DOT_EDGE = re.compile(r'  (\w+) -> (\w+)(?: \[label="(\w+)"\])?;')


def of_mermaid(text):
    """Labels by id, and edges."""
    head, *lines = text.splitlines()
    assert head == "flowchart LR"
    labels, edges = {}, set()
    for line in lines:
        if node := MERMAID_NODE.fullmatch(line):
            labels[node[1]] = [re.sub(r"#(\d+);", lambda code: chr(int(code[1])), part) for part in node[3].split("<br>")]
        else:
            source, role, target = MERMAID_EDGE.fullmatch(line).groups()
            edges.add((source, target, role or "of"))
    del labels["output"]
    return labels, edges


def of_dot(text):
    first, direction, style, *lines, last = text.splitlines()
    assert (first, direction, last) == ("digraph composition {", "  rankdir=LR;", "}")
    assert style.startswith("  node [")
    lines.remove("  output [shape=plaintext];")
    labels, edges = {}, set()
    for line in lines:
        if node := DOT_NODE.fullmatch(line):
            parts = re.split(r"(?<!\\)(?:\\\\)*\\n", node[2]) if "\\\\" not in node[2] else [node[2]]
            labels[node[1]] = [unescape(re.sub(r"\\(.)", r"\1", part)) for part in parts]
        else:
            source, target, role = DOT_EDGE.fullmatch(line).groups()
            edges.add((source, target, role or "of"))
    return labels, edges


READ = {"mermaid": of_mermaid, "dot": of_dot}


def crowded(cells, **nodes):
    """So many cells, and a parallel of some nodes that read them."""
    named = {f"c{i:04d}": f"high/cell-{i}" for i in range(cells)}
    nodes = {name: node(list(named)) for name, node in nodes.items()}
    nodes["out"] = Parallel(of=(*nodes, *named))
    return Composition(schema_version="1.0", output="out", cells=named, nodes=nodes)


DRAWN = {
    "example": Composition.from_toml(EXAMPLE, where="x"),
    "one cell": Composition(schema_version="1.0", output="a", cells={"a": "low/a"}),
    "one node": Composition.parallel({"a": "low/a"}),
    "no crowd": Composition.parallel({f"c{i}": "low/a" for i in range(CROWD)}),
    "names of the syntaxes": Composition.parallel({"end": "low/a", "graph": "low/b", "subgraph": "low/c", "output": "low/d"}),
}


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("name", DRAWN)
def test_the_text_parses_back_to_the_graph(name, syntax):
    composition = DRAWN[name]
    labels, edges = READ[syntax](draw(composition, syntax))
    names = {id: lines[0] for id, lines in labels.items()}
    assert sorted(names.values()) == sorted([*composition.cells, *composition.nodes])
    graph = {(names[source], names[target], role) for source, target, role in edges if target != "output"}
    assert graph == set(composition.graph().edges(data="role"))
    assert [names[source] for source, target, _ in edges if target == "output"] == [composition.output]


@pytest.mark.slow
@given(compositions(), st.randoms())
def test_equal_compositions_are_drawn_alike(composition, random):
    shuffled = composition.model_dump()
    for key in ("cells", "nodes"):
        rows = list(shuffled[key].items())
        random.shuffle(rows)
        shuffled[key] = dict(rows)
    again = Composition.model_validate(shuffled)
    for syntax in SYNTAXES:
        loaded = load_document(Composition, again.to_bytes(), where="x", limit=2**20)
        assert draw(again, syntax) == draw(composition, syntax) == draw(loaded, syntax)


def test_words_and_roles():
    text = draw(DRAWN["example"])
    for words in (
        "noise<br>high/johanna-64@1.0.0",
        "relay of omega",
        "route by error",
        "parallel of 3",
        "|source|",
        "|target|",
    ):
        assert text.count(words) == 1


HOSTILE = [
    "<script>alert(1)</script>",
    "\"' onload='x",
    '"]; n9 --> n0',
    "`**bold**`",
    "&amp;&#0;",
    "\\N\\l",
    "\x00\x1b[2J\u202e\ufffe",
    "a\nb",
    "%%{init: {}}%%",
]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_references_are_text(text, syntax):
    drawing = draw(Composition.parallel({"a": text}), syntax)
    labels, edges = READ[syntax](drawing)
    shown = "".join(char if char.isprintable() else "\ufffd" for char in text)
    assert (len(labels), len(edges)) == (2, 2)
    assert shown in labels["n0"][-1]
    for code in (0, 0x1B, 0x202E, 0xFFFE):
        assert chr(code) not in drawing


def test_a_long_text_loses_its_middle():
    labels, _ = of_mermaid(draw(Composition.parallel({"a": "b" * 60 + "/" + "c" * 60})))
    assert labels["n0"][1] == "b" * 29 + "\N{HORIZONTAL ELLIPSIS}" + "c" * 29
    assert len(labels["n0"][1]) < LONGEST


def test_cells_that_feed_the_same_are_one_node():
    nodes = {"a": lambda c: Parallel(of=tuple(c[:30])), "b": lambda c: Relay(source=c[0], target=c[1])}
    composition = crowded(60, **nodes)  # 0 and 1 feed a relay too, 2 to 29 two parallels, 30 to 59 one
    labels, _ = of_mermaid(draw(composition))
    assert ["30 cells", "c0030 and 29 others"] in labels.values()
    assert ["28 cells", "c0002 and 27 others"] in labels.values()
    assert len(draw(Composition.parallel({f"c{i}": "low/a" for i in range(1000)}))) < 400


def test_another_syntax_is_refused():
    with pytest.raises(InputError, match="SYNTAX"):
        draw(DRAWN["one cell"], "svg")
