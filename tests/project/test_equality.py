"""Equality: cells and probes by their digests, what else holds tensors by identity; no array is asked whether it is true."""

import ast
import copy
import dataclasses
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from batteries import Cell, CellSpec, IntegrityError, PatchSVAE, Probe, probe
from composer import Composition, compose, procrustes, swap, wire
from composer.container.outputs import TAPS
from tests.support.cells import from_model, tiny

ROOT = Path(__file__).parents[2]
ARRAYS = {"Tensor", "ndarray", "Array", "ContainerOutput"}
SPEC = CellSpec(V=6, D=4, patch_size=4, hidden=8, heads=2)


def dataclasses_of(path):
    """Name, the words in its fields' types, and the keywords of its decorator, of every dataclass in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        for made in getattr(node, "decorator_list", []) if isinstance(node, ast.ClassDef) else []:
            if ast.unparse(made).startswith("dataclass"):
                fields = " ".join(ast.unparse(row.annotation) for row in node.body if isinstance(row, ast.AnnAssign))
                yield node.name, {*re.findall(r"\w+", fields)}, ast.unparse(made)


@pytest.mark.slow
def test_no_dataclass_compares_tensors():
    files = [path for package in ("batteries", "composer", "registry") for path in (ROOT / package).rglob("*.py")]
    holding = {name: made for path in files for name, words, made in dataclasses_of(path) if words & ARRAYS}
    assert {"Cell", "Probe", "Tokens", "Output", "GroupOutput", "WiredOutput", "Frame", "Alignment"} <= set(holding)
    assert [name for name, made in holding.items() if "eq=False" not in made] == []


def test_two_cells_are_equal_if_their_digests_are():
    one, again, other = tiny("one"), tiny("two"), tiny("one", seed=1)
    assert one.digest == again.digest
    assert one == again
    assert one != other
    assert one != one.digest
    assert {one: "a", other: "b"}[again] == "a"
    assert len({one, again, other}) == 2
    assert [other, one].index(again) == 1
    assert again in [other, one]
    assert tiny("x", seed=2) not in [other, one]
    assert [other, one, again].count(one) == 2


def test_a_cell_of_other_weights_is_another_one():
    cell = tiny()
    name = next(iter(cell.weights))
    other = dataclasses.replace(cell, weights={**cell.weights, name: cell.weights[name] + 1})
    less = dataclasses.replace(cell, weights={name: cell.weights[name]})
    assert cell not in [other, less]
    assert [other, cell].index(dataclasses.replace(cell)) == 1


def test_a_cell_of_other_weights_is_not_composed():
    cell = from_model(SPEC, 0, "cell")
    name = next(iter(cell.weights))
    for weights in ({**cell.weights, name: cell.weights[name] + 1}, {name: cell.weights[name]}):
        with pytest.raises(IntegrityError, match="TENSOR_DIGEST"):
            compose(dataclasses.replace(cell, weights=weights))


CHANGES = {
    "replaced in the mapping": lambda weights, name: weights.update({name: weights[name] + 1}),
    "written through torch": lambda weights, name: torch.from_numpy(weights[name]).add_(1),
    "written by .data": lambda weights, name: torch.from_numpy(weights[name]).data.neg_(),
    "turned round": lambda weights, name: torch.from_numpy(weights[name]).copy_(torch.from_numpy(weights[name]).flip(0)),
}
COPIES = {"itself": lambda cell: cell, "deep copy": copy.deepcopy, "pickled": lambda cell: pickle.loads(pickle.dumps(cell))}


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_cell_that_was_composed_is_checked_again(change, copied):
    cell = from_model(SPEC, 0, "cell")
    compose(cell)
    cell = copied(cell)
    compose(cell)
    change(cell.weights, max(cell.weights, key=lambda name: cell.weights[name].size))
    with pytest.raises(IntegrityError, match="TENSOR_DIGEST"):
        compose([cell, from_model(SPEC, 1, "other")])
    with pytest.raises(IntegrityError, match="TENSOR_DIGEST"):
        compose(copied(cell))


def test_a_cell_read_again_is_the_same(tmp_path):
    cell = tiny()
    assert Cell.read(cell.write(tmp_path)) == cell


def test_probes_are_equal_if_their_digests_are():
    one = probe("noise16-64")
    again = Probe(**{**vars(one), "images": one.images.clone()})
    assert one == again
    assert [probe("photos-64"), again].index(one) == 1
    assert {one: 1}[again] == 1


def made():
    cells = {name: from_model(SPEC, seed, name) for seed, name in enumerate("abc")}
    x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    nodes = {"swap": {"kind": "relay", "source": "a", "target": "b"}, "out": {"kind": "route", "of": ["swap", "c"]}}
    composition = Composition.model_validate(
        {"schema_version": "1.0", "output": "out", "cells": {name: f"high/{name}" for name in cells}, "nodes": nodes}
    )
    container, wired, single = compose(cells, x), wire(cells, composition, x), PatchSVAE.from_cell(cells["a"])
    out, routed = container(x, TAPS), wired(x)
    return [
        *(cells["a"], probe("noise16-64"), container, wired, single, composition),
        *(
            single.tokens(x),
            single(x),
            container.tokens(x)["a"],
            out,
            out.groups[0],
            out["a"],
            routed,
            routed["swap"],
            routed["out"],
        ),
        *(container.consensus, container.consensus.frame, container.consensus.maps[0], container.consensus.scores[0]),
        *(procrustes.fit(torch.randn(50, 4), torch.randn(50, 4)), container.explain(), swap(container, "a", "b", x)),
    ]


@pytest.mark.slow
def test_everything_is_found_in_a_list():
    first, second = made(), made()
    every = [*first, *second]
    for place, item in enumerate(first):
        assert item == item
        assert every.index(item) == place
        assert item in every
        assert bool(item != second[(place + 1) % len(second)])


@pytest.mark.slow
def test_everything_is_a_key_or_says_that_it_is_none():
    mappings = [item for item in made() if isinstance(item, Mapping | Composition)]
    for item in mappings:
        with pytest.raises(TypeError, match="unhashable"):
            hash(item)
    for item in made():
        if not isinstance(item, Mapping | Composition):
            assert {item: 1}[item] == 1
