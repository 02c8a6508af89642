"""Compositions: what can be written, what is refused in which words, and what the cells must have in common."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from batteries.cell.spec import CellSpec
from batteries.errors import BatteriesError, FormatError, InputError, NotFoundError, PolicyError
from batteries.io.canonical_json import load_document
from composer import Composition, Parallel, Relay, Route
from composer.wiring.composition import MAX_ENTRIES, MAX_FILE
from composer.wiring.nodes import NAME
from composer.wiring.validation import MAX_SHOWN, NESTS

ROOT = Path(__file__).parents[3]

EXAMPLE = """\
schema_version = "1.0"
output = "all"                         # the node (or cell) whose result is the model's

[cells]
noise = "high/johanna-64@1.0.0"
photo = "high/fresnel-64"
"low/fresnel-256" = "low/fresnel-256"

[nodes.swap]
kind = "relay"
source = "noise"
target = "photo"

[nodes.routed]
kind = "route"
of = ["swap", "photo"]

[nodes.all]
kind = "parallel"
of = ["noise", "routed", "low/fresnel-256"]
"""


def example(**changes):
    """The example with other fields, as a dictionary."""
    return tomllib.loads(EXAMPLE) | changes


def parallel(*of):
    return {"kind": "parallel", "of": list(of)}


def relay(source, target, tokens="omega"):
    return {"kind": "relay", "source": source, "target": target, "tokens": tokens}


def route(*of):
    return {"kind": "route", "of": list(of)}


names = st.from_regex(NAME, fullmatch=True).filter(lambda name: len(name) <= 130)
references = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@st.composite
def compositions(draw):
    """Valid ones of every kind of node, their output a parallel of everything that nothing else reads."""
    *found, output = draw(st.lists(names, min_size=2, max_size=14, unique=True))
    count = draw(st.integers(1, len(found)))
    kinds, nodes = dict.fromkeys(found[:count], "cell"), {}
    for name in found[count:]:
        kind = draw(st.sampled_from(sorted(NESTS)))
        takes = [read for read in kinds if kinds[read] in NESTS[kind]]
        fewest, most = {"parallel": (1, 5), "relay": (2, 2), "route": (2, 5)}[kind]
        if len(takes) < fewest:
            continue
        of = tuple(draw(st.lists(st.sampled_from(takes), min_size=fewest, max_size=most, unique=True)))
        kinds[name] = kind
        if kind == "relay":
            nodes[name] = Relay(source=of[0], target=of[1], tokens=draw(st.sampled_from(["omega", "rows"])))
        elif kind == "route":
            nodes[name] = Route(of=of, by=draw(st.sampled_from(["error", "router"])))
        else:
            nodes[name] = Parallel(of=of)
    read = {read for node in nodes.values() for _, read in node.reads}
    nodes[output] = Parallel(of=tuple(name for name in kinds if name not in read))
    cells = {name: draw(references) for name in kinds if kinds[name] == "cell"}
    return Composition(schema_version="1.0", output=output, cells=cells, nodes=nodes)


def test_the_example():
    composition = Composition.from_toml(EXAMPLE, where="x")
    assert composition.nodes["swap"] == Relay(source="noise", target="photo", tokens="omega")
    assert composition.nodes["routed"] == Route(of=("swap", "photo"), by="error")
    assert composition.order == ("swap", "routed", "all")
    assert composition.generations == (("low/fresnel-256", "noise", "photo"), ("swap",), ("routed",), ("all",))
    assert composition.kind("photo") == "cell"
    graph = composition.graph()
    assert dict(graph.nodes(data="kind")) == {name: composition.kind(name) for name in graph}
    assert set(graph.edges(data="role")) == {
        ("noise", "swap", "source"),
        ("photo", "swap", "target"),
        ("swap", "routed", "of"),
        ("photo", "routed", "of"),
        ("noise", "all", "of"),
        ("routed", "all", "of"),
        ("low/fresnel-256", "all", "of"),
    }


def test_a_cell_may_be_the_output():
    composition = Composition.from_toml('schema_version = "1.0"\noutput = "a"\n[cells]\na = "low/a"', where="x")
    assert composition.order == ()
    assert composition.generations == (("a",),)


@pytest.mark.slow
@given(compositions())
def test_a_round_trip_through_toml_and_json_is_the_identity(composition):
    assert Composition.from_toml(composition.to_toml(), where="x") == composition
    assert load_document(Composition, composition.to_bytes(), where="x", limit=2**20) == composition


@pytest.mark.slow
@given(compositions())
def test_the_order_puts_everything_after_what_it_reads(composition):
    order = composition.order
    assert sorted(order) == sorted(composition.nodes)
    place = {name: index for index, name in enumerate(order)}
    for name, node in composition.nodes.items():
        assert all(place[read] < place[name] for _, read in node.reads if read in place)
    assert sorted(name for names in composition.generations for name in names) == sorted({*composition.cells, *place})


def test_equal_compositions_have_one_order_whatever_their_files():
    backwards = example(nodes=dict(reversed(example()["nodes"].items())))
    first, second = Composition.model_validate(example()), Composition.model_validate(backwards)
    assert first == second
    assert first.order == second.order


def test_all_cells_side_by_side():
    composition = Composition.parallel({"b": "low/b", "a": "low/a"})
    assert composition.output == "all"
    assert composition.nodes == {"all": Parallel(of=("b", "a"))}
    assert composition.cells == {"a": "low/a", "b": "low/b"}


@pytest.mark.parametrize(
    ("references", "kind", "code", "words"),
    [
        ({}, PolicyError, "COMPOSITION", "all: a parallel takes 1 or more, of has 0"),
        ({"all": "low/a"}, PolicyError, "COMPOSITION", "all: both a cell and a node"),
        ({"A": "low/a"}, InputError, "CELLS", "cells.A"),
        ({"a": ""}, InputError, "CELLS", "cells.a"),
        ({3: "low/a"}, InputError, "CELLS", "of.0"),
    ],
)
def test_cells_that_cannot_be_side_by_side(references, kind, code, words):
    with pytest.raises(kind, match=code) as caught:
        Composition.parallel(references)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["a", "a.b_c-d", "0", "low/fresnel-256", "a" * 130, "a" * 64 + "/" + "b" * 65])
def test_names(name):
    assert Composition.parallel({name: "low/a"}).order == ("all",)


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a/", "/a", "a//b", "a/b/c", "a./b", "a b", "é", "a\n", "a" * 131])
def test_no_names(name):
    with pytest.raises(InputError, match="a name is 1 to 130 of a-z, 0-9"):
        Composition.parallel({name: "low/a"})


DEEP = "a." * 20
BAD_FILES = {
    "": ("SCHEMA", "schema_version: Field required; output: Field required; cells: Field required"),
    "schema_version": ("TOML", "Expected '=' after a key"),
    EXAMPLE.replace('"low/fresnel-256" =', "low/fresnel-256 ="): ("TOML", 'A name with "/" or "." must be quoted.'),
    EXAMPLE.replace('"low/fresnel-256" =', "low.fresnel-256 ="): ("SCHEMA", 'A name with "/" or "." must be quoted.'),
    EXAMPLE.replace("[cells]", "[cells"): ("TOML", "at line 4"),
    EXAMPLE + EXAMPLE: ("TOML", "twice (at line 24"),
    "a = " + "9" * 5000: ("TOML", "5000 digits"),
    "a = '\ud800'": ("TOML", "surrogates"),
    "a = " + "[" * 5000: ("TOO_DEEP", "at most 3 levels"),
    "a = " + "{a = " * 5000: ("TOO_DEEP", "at most 3 levels"),
    "a." * 1_000_000 + "a = 1": ("TOO_DEEP", "at most 3 levels"),
    "'a' . \"b#\"." * 20 + "a = 1": ("TOO_DEEP", "at most 3 levels"),
    f"x = ['''''', '''a'''', \"\"\"\\\"\"\"\"\"]\n{DEEP}a = 1": ("TOO_DEEP", "at most 3 levels"),
    "#" * (MAX_FILE + 1): ("TOO_LARGE", f"at most {MAX_FILE} bytes"),
    EXAMPLE.replace('"1.0"', '"2.0"'): ("SCHEMA_NEWER", "expected 1.0 or older, got 2.0"),
    EXAMPLE.replace('"1.0"', '"1.1"'): ("SCHEMA", "schema_version: Input should be '1.0'"),
    EXAMPLE.replace('"1.0"', "1.0"): ("SCHEMA", "schema_version: Input should be '1.0'"),
    EXAMPLE.replace("noise =", "Noise ="): ("SCHEMA", "cells.Noise.[key]: a name is 1 to 130 of"),
    EXAMPLE.replace('"high/fresnel-64"', "64"): ("SCHEMA", "cells.photo: Input should be a valid string"),
    EXAMPLE.replace('"high/fresnel-64"', '""'): ("SCHEMA", "cells.photo: String should have at least 1 character"),
    EXAMPLE.replace('"relay"', '"realy"'): ("SCHEMA", 'nodes.swap: kind should be "parallel", "relay" or "route"'),
    EXAMPLE.replace('"relay"', '["relay"]'): ("SCHEMA", 'nodes.swap: kind should be "parallel", "relay" or "route"'),
    EXAMPLE.replace('kind = "relay"', ""): ("SCHEMA", 'nodes.swap: kind should be "parallel", "relay" or "route"'),
    EXAMPLE.replace("source =", "sauce ="): ("SCHEMA", "nodes.swap.relay.source: Field required"),
    EXAMPLE.replace("[nodes.swap]", "[nodes.swap]\nby = 1"): ("SCHEMA", "nodes.swap.relay.by: Extra inputs"),
    EXAMPLE.replace("[nodes.swap]", '[nodes.swap]\ntokens = "S"'): ("SCHEMA", "tokens: Input should be 'omega' or 'rows'"),
    EXAMPLE.replace('["swap", "photo"]', '"photo"'): ("SCHEMA", "nodes.routed.route.of: Input should be a valid tuple"),
    EXAMPLE.replace('"photo"]', "1979-05-27]"): ("SCHEMA", "nodes.routed.route.of.1: Input should be a valid string"),
    EXAMPLE.replace("[nodes.swap]", "[nodes]\nswap = 3\n[nodes.b]"): ("SCHEMA", "nodes.swap: kind should be"),
    "surprise = nan\n" + EXAMPLE: ("SCHEMA", "surprise: Extra inputs are not permitted"),
    EXAMPLE.replace("[cells]", "[cells]\n" + "".join(f'c{i} = "x"\n' for i in range(MAX_ENTRIES))): ("SCHEMA", "at most 4096"),
}


@pytest.mark.parametrize("text", BAD_FILES, ids=lambda text: repr(text[:30]))
def test_files_that_are_no_composition(text):
    code, words = BAD_FILES[text]
    with pytest.raises(FormatError) as caught:
        Composition.from_toml(text, where="x.toml")
    assert caught.value.code == code
    assert caught.value.exit_code == 4
    assert words in str(caught.value)
    assert "in x.toml" in str(caught.value)


def test_keys_in_texts_are_not_nested():
    text = f"""[cells]\na = "{DEEP}"\n# {DEEP}\nb = '{DEEP}'\nc = '''\n{DEEP}'''\nd = \"\"\"\n{DEEP}\\\"\"\"\"\n"""
    composition = Composition.from_toml(
        f'schema_version = "1.0"\noutput = "p"\nnodes.p = {{kind = "parallel", of = ["a", "b", "c", "d"]}}\n{text}', where="x"
    )
    assert composition.cells["d"] == DEEP + '"'


def test_every_field_that_is_wrong_is_named():
    text = EXAMPLE.replace("noise =", "Noise =").replace('"relay"', '"realy"').replace("output", "input")
    with pytest.raises(FormatError) as caught:
        Composition.from_toml(text, where="x")
    for place in ("output: ", "input: ", "cells.Noise", "nodes.swap: "):
        assert place in caught.value.found


def test_a_python_user_is_told_by_pydantic_too():
    with pytest.raises(ValidationError, match="frozen"):
        Composition.parallel({"a": "low/a"}).output = "a"
    with pytest.raises(ValidationError, match="valid tuple"):
        Parallel(of={"a"})


def refused(document):
    """The faults of a document, each once."""
    with pytest.raises(PolicyError) as caught:
        Composition.model_validate(document)
    assert caught.value.code == "COMPOSITION"
    assert caught.value.exit_code == 6
    return caught.value.found.split("; ")


NODES = example()["nodes"]
BAD = {
    "all: of 'foto' is neither a cell nor a node (did you mean photo?)": {"all": parallel("noise", "routed", "foto")},
    "all: of 'x=[1]\\n' is neither a cell nor a node": {"all": parallel("x=[1]\n")},
    f"all: of '{'x' * 130}...' is neither a cell nor a node": {"all": parallel("x" * 1000)},
    "swap: source 'foto' is neither a cell nor a node (did you mean photo?)": {"swap": relay("foto", "noise")},
    "photo: both a cell and a node": {"photo": parallel("noise")},
    "swap: source and target are both 'noise'": {"swap": relay("noise", "noise")},
    "all: of has 'routed' 3 times": {"all": parallel("routed", "routed", "routed")},
    "all: a parallel takes 1 or more, of has 0": {"all": parallel()},
    "routed: a route takes 2 or more, of has 1": {"routed": route("swap")},
    "swap: source 'routed' is a route, and a relay takes a cell": {"swap": relay("routed", "photo")},
    "swap: target 'all' is a parallel, and a relay takes a cell": {"swap": relay("noise", "all")},
    "chain: source 'swap' is a relay, and a relay takes a cell": {"chain": relay("swap", "photo")},
    "routed: of 'side' is a parallel, and a route takes a cell or relay": {
        "side": parallel("noise"),
        "routed": route("side", "swap"),
    },
    "outer: of 'routed' is a route, and a route takes a cell or relay": {"outer": route("routed", "noise")},
    "all: in a cycle, all reads itself": {"all": parallel("all", "routed")},
    "a: in a cycle, a reads b reads c reads a": {"c": parallel("a"), "a": parallel("b"), "b": parallel("c")},
    "swap: unused, the output 'all' does not need this relay": {"routed": route("noise", "photo")},
    "photo: unused, the output 'all' does not need this cell": {"all": parallel("noise")},
}


@pytest.mark.parametrize("fault", BAD)
def test_compositions_that_cannot_be(fault):
    assert fault in refused(example(nodes=NODES | BAD[fault]))


def test_an_output_that_is_not_there_says_nothing_of_what_is_unused():
    assert refused(example(output="al")) == ["output 'al' is neither a cell nor a node (did you mean all?)"]


def test_the_file_is_named():
    with pytest.raises(PolicyError, match=r"in x\.toml"):
        Composition.from_toml(EXAMPLE.replace('"all" ', '"al" '), where="x.toml")


# class of fault: cells and nodes that have it and no other, what the output is to read of them, and its words
FAULTS = {
    "both": ({"x1": "low/a"}, {"x1": parallel("noise")}, "x1: both a cell and a node"),
    "unknown": ({}, {"x2": parallel("?")}, "x2: of '?' is neither a cell nor a node"),
    "circle": ({}, {"x3": parallel("y3"), "y3": parallel("x3")}, "x3: in a cycle, x3 reads y3 reads x3"),
    "itself": ({}, {"x4": parallel("x4")}, "x4: in a cycle, x4 reads itself"),
    "nesting": ({}, {"x5": route("photo", "all-noise")}, "x5: of 'all-noise' is a parallel, and a route takes a cell or relay"),
    "twice": ({}, {"x6": parallel("noise", "noise")}, "x6: of has 'noise' 2 times"),
    "few": ({}, {"x7": route("noise")}, "x7: a route takes 2 or more, of has 1"),
    "same": ({}, {"x8": relay("noise", "noise")}, "x8: source and target are both 'noise'"),
    "unused": ({"y9": "low/y"}, {}, "y9: unused, the output 'everything' does not need this cell"),
}


@pytest.mark.slow
@given(st.sets(st.sampled_from(sorted(FAULTS)), min_size=1))
def test_every_fault_is_told_with_every_other(classes):
    cells = {"noise": "high/a", "photo": "high/b"}
    nodes = {"all-noise": parallel("noise", "photo")}
    for name in classes:
        cells, nodes = cells | FAULTS[name][0], nodes | FAULTS[name][1]
    document = {"schema_version": "1.0", "output": "everything", "cells": cells}
    document["nodes"] = nodes | {"everything": parallel(*nodes)}
    assert sorted(refused(document)) == sorted(FAULTS[name][2] for name in classes)


@pytest.mark.slow
def test_a_long_circle_is_cut():
    count = 3000
    nodes = {f"n{i:04d}": parallel(f"n{(i + 1) % count:04d}") for i in range(count)}
    (fault,) = refused({"schema_version": "1.0", "output": "n0000", "cells": {}, "nodes": nodes})
    assert fault.startswith("n0000: in a cycle, n0000 reads n0001 reads n0002")
    assert fault.endswith(f"n{MAX_SHOWN - 1:04d}, and so on: {count} in all")


def test_more_faults_than_anybody_reads():
    cells = {f"c{i}": "low/a" for i in range(1500)}
    faults = refused({"schema_version": "1.0", "output": "c0", "cells": cells, "nodes": {}})
    assert len(faults) == 1001
    assert faults[-1] == "and 499 more"


@pytest.mark.slow
def test_the_largest_there_may_be():
    cells = {f"c{i}": "low/a" for i in range(MAX_ENTRIES)}
    nodes = {f"n{i}": parallel(f"c{i}", *([f"n{i - 1}"] if i else [])) for i in range(MAX_ENTRIES)}
    document = {"schema_version": "1.0", "output": f"n{MAX_ENTRIES - 1}", "cells": cells, "nodes": nodes}
    composition = Composition.model_validate(document)
    assert composition.order == tuple(nodes)
    assert Composition.from_toml(composition.to_toml(), where="x") == composition


PIECES = ['"', "'", '"""', "'''", "[", "]", "{", "}", "=", ".", "#", "\n", "\\", "\x00", "[[nodes.x]]\n", "[nodes.swap]\n"]
PIECES += [
    'kind = "route"\n',
    'of = ["swap"]\n',
    'source = "all"\n',
    "1e400",
    "0x",
    "1979-05-27T07:32:00",
    "nan",
    "a.b.c = 1\n",
]
edits = st.tuples(st.integers(0, 600), st.integers(0, 40), st.sampled_from(PIECES) | st.text(max_size=4))


def outcome(text):
    """What a text reads as, or its typed error."""
    try:
        return Composition.from_toml(text, where="x.toml")
    except (FormatError, PolicyError) as error:
        return error


@given(st.just(EXAMPLE) | compositions().map(Composition.to_toml), st.lists(edits, min_size=1, max_size=6))
@pytest.mark.slow
def test_mutants_end_in_typed_errors_only(text, changes):
    for at, length, piece in changes:
        text = text[:at] + piece + text[at + length :]
    found = outcome(text)
    if isinstance(found, Composition):
        assert Composition.from_toml(found.to_toml(), where="x") == found
    else:
        assert found.code in {"TOML", "SCHEMA", "SCHEMA_NEWER", "COMPOSITION", "TOO_DEEP"}
        assert "in x.toml" in str(found)


def test_a_file_is_read(tmp_path):
    path = tmp_path / "composition.toml"
    path.write_text(EXAMPLE)
    assert Composition.read(path) == Composition.read(str(path)) == Composition.from_toml(EXAMPLE, where="x")


@pytest.mark.parametrize(("data", "code"), [(b"\xff", "TOML"), (b"#" * (MAX_FILE + 1), "TOO_LARGE"), (b"x", "TOML")])
def test_files_that_cannot_be_read(data, code, tmp_path):
    path = tmp_path / "composition.toml"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=code) as caught:
        Composition.read(path)
    assert str(path) in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(NotFoundError, match="NO_FILE"):
        Composition.read(tmp_path / "composition.toml")


def spec(patch, **changes):
    return CellSpec(**({"V": 32, "D": 4, "patch_size": patch, "hidden": 8} | changes))


CHECKED = Composition.model_validate(
    {
        "schema_version": "1.0",
        "output": "all",
        "cells": {"a": "x", "b": "x", "c": "x"},
        "nodes": {
            "omegas": relay("a", "b"),
            "rows": relay("a", "b", "rows"),
            "routed": route("omegas", "c"),
            "all": parallel("routed", "rows"),
        },
    }
)
GOOD_SPECS = {"a": spec(4), "b": spec(16), "c": spec(8)}
UNEVEN = {
    "omegas: D is 8 in 'a', and 4 in 'b'": ({"a": spec(4, D=8)}, None),
    "rows: D is 8 in 'a', and 4 in 'b'": ({"a": spec(4, D=8)}, None),
    "rows: V is 64 in 'a', and 32 in 'b'": ({"a": spec(4, V=64)}, None),
    "omegas: the grid of 'a', patches of 32 pixels, is coarser than that of 'b', patches of 16 pixels": ({"a": spec(32)}, None),
    "omegas: the grid of 'a', 2 x 4 patches, is coarser than that of 'b', 4 x 8 patches": ({"a": spec(32)}, (64, 128)),
    "rows: the grid of 'a', patches of 5 pixels, is not a multiple of that of 'b', patches of 16 pixels": (
        {"a": spec(5)},
        None,
    ),
    "rows: the grid of 'a', 16 x 16 patches, is not a multiple of that of 'b', 5 x 5 patches": ({"a": spec(5)}, (80, 80)),
    "routed: the grid of 'c', patches of 5 pixels, does not nest in that of 'omegas', decoded by 'b', patches of 16 pixels": (
        {"c": spec(5)},
        (64, 64),
    ),
    "routed: the grid of 'omegas', decoded by 'b', 3 x 3 patches, does not nest in that of 'c', 2 x 2 patches": (
        {"c": spec(24)},
        (48, 48),
    ),
    "omegas: 'b' decodes no omega, only rows, as its readout is linear": ({"b": spec(16, readout="linear")}, None),
    "omegas: 'b' decodes no omega, only rows, as its readout is narrow": ({"b": spec(16, readout="narrow")}, None),
    "omegas: 'b' decodes no omega, only rows, as its readout is none": ({"b": spec(16, readout="none")}, (64, 64)),
    "c: channels are 1, and 3 in 'a'": ({"c": spec(8, channels=1)}, None),
    "b: an image of 64 x 72 is not a multiple of 16 pixels": ({}, (64, 72)),
    "a: an image of 0 x 64 is not a multiple of 4 pixels": ({}, (0, 64)),
}


@pytest.mark.parametrize("size", [None, (64, 64), (16, 160)])
def test_cells_that_go_together(size):
    CHECKED.check(GOOD_SPECS, size)
    CHECKED.check(GOOD_SPECS | {"a": spec(4, readout="linear"), "c": spec(8, readout="none")}, size)
    CHECKED.check(GOOD_SPECS | {"a": spec(4, V=32, hidden=16), "c": spec(8, D=2, V=5), "other": spec(3)}, size)


def test_a_relay_of_omega_needs_no_common_rows():
    nodes = {"omegas": relay("a", "b")}
    document = {"schema_version": "1.0", "output": "omegas", "cells": {"a": "x", "b": "x"}, "nodes": nodes}
    Composition.model_validate(document).check({"a": spec(4, V=64), "b": spec(4)})


@pytest.mark.parametrize("fault", UNEVEN)
def test_cells_that_do_not(fault):
    changes, size = UNEVEN[fault]
    with pytest.raises(PolicyError) as caught:
        CHECKED.check(GOOD_SPECS | changes, size)
    assert caught.value.code == "WIRING"
    assert caught.value.exit_code == 6
    assert fault in caught.value.found.split("; ")


def test_everything_uneven_is_told_at_once():
    with pytest.raises(PolicyError) as caught:
        CHECKED.check({"a": spec(5, D=8, V=64), "b": spec(16), "c": spec(7, channels=1)}, (63, 64))
    found = caught.value.found.split("; ")
    assert [fault.split(":")[0] for fault in found] == ["a", "b", "c", "c", *["omegas"] * 2, *["rows"] * 3, "routed"]


def test_cells_without_a_spec():
    with pytest.raises(InputError, match="got b, c") as caught:
        CHECKED.check({"a": spec(4)})
    assert caught.value.code == "SPECS"
    assert isinstance(caught.value, BatteriesError)


@pytest.mark.slow
def test_wiring_needs_no_torch_and_nothing_else_needs_networkx():
    code = "import sys, composer.wiring.composition; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=dict(os.environ)).returncode == 0
    paths = [path for package in ("batteries", "composer", "registry") for path in (ROOT / package).rglob("*.py")]
    assert {path.name for path in paths if "import networkx" in path.read_text()} == {"composition.py", "validation.py"}
