"""Lists where lists come naturally: one, several, a list, a tuple, a generator; or one typed error."""

from pathlib import Path

import pytest
import torch

import batteries
import composer
import registry
from batteries.data.probes import photographs
from batteries.errors import InputError, NotFoundError
from tests.support.cells import cells, filled, from_model

SPEC = batteries.CellSpec(V=6, D=4, patch_size=4, hidden=8, depth=1, cross_layers=1, smooth_width=2)
FORMS = {
    "one by one": lambda names: names,
    "a list": lambda names: (list(names),),
    "a tuple": lambda names: (tuple(names),),
    "a generator": lambda names: ((name for name in names),),
    "one and a list": lambda names: (names[0], list(names[1:])),
}


@pytest.fixture(scope="module")
def pair():
    return [from_model(SPEC, 0, "a"), from_model(SPEC, 1, "b")]


@pytest.mark.parametrize("form", FORMS)
def test_pull_and_verify_take_lists(form):
    made = cells(3)
    store, names = filled(*made), [cell.name for cell in made]
    assert [cell.name for cell in registry.pull(*FORMS[form](names), registry=store)] == names
    assert len(registry.verify(*FORMS[form](names), registry=store)) == len(registry.verify(*names, registry=store))
    assert registry.pull([], registry=store) == []


@pytest.mark.parametrize("form", FORMS)
def test_read_photos_and_cells_of_a_container_take_lists(form, pair):
    places = [str(path) for path in photographs()[:2]]
    assert len(batteries.read_photos(*FORMS[form](places)).names) == 2
    container = composer.compose(pair)
    assert container.cells(*FORMS[form](container.names)).names == container.names


def test_one_thing_where_many_may_stand(pair):
    container = composer.compose(pair[0])
    assert container.names == (pair[0].name,)
    assert composer.compose(iter(pair)).names == tuple(cell.name for cell in pair)
    both, images = composer.compose(pair), torch.randn(2, 3, 8, 8)
    assert list(both(images, names=pair[1].name)) == [pair[1].name]
    assert list(both(images, names=(name for name in [pair[1].name]))) == [pair[1].name]
    assert both.part(pair[1].name).names == (pair[1].name,)


WRONG = {
    "pull a path": (lambda store: registry.pull(Path("low/a"), registry=store), InputError, "REFERENCE"),
    "pull a number": (lambda store: registry.pull([3], registry=store), InputError, "REFERENCE"),
    "pull None": (lambda store: registry.pull(None, registry=store), InputError, "REFERENCE"),
    "load a list": (lambda store: registry.load(["high/cell-0"], registry=store), InputError, "REFERENCE"),
    "validate a list": (lambda store: registry.validate(["high/cell-0"], registry=store), InputError, "REFERENCE"),
    "publish a list": (lambda store: registry.publish(cells(2), store), InputError, "CELL"),
    "photos of a number": (lambda store: batteries.read_photos(3), InputError, "PLACE"),
    "compose a name": (lambda store: composer.compose("high/cell-0"), InputError, "CELLS"),
    "compose a path": (lambda store: composer.compose(Path("a.safetensors")), InputError, "CELLS"),
    "part of a number": (lambda store: composer.compose(cells(1)).part([3]), NotFoundError, "NO_CELL"),
    "cells of a number": (lambda store: composer.compose(cells(1)).cells(3), NotFoundError, "NO_CELL"),
    "a probe of no name": (lambda store: composer.compose(cells(1), probe="photos"), InputError, "NO_PROBE"),
    "measure a tensor": (
        lambda store: batteries.measure(batteries.untrained(SPEC, 0), torch.zeros(1, 3, 8, 8)),
        InputError,
        "PROBE",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_such_thing_is_one_typed_error(case):
    call, kind, code = WRONG[case]
    with pytest.raises(kind) as caught:
        call(filled(*cells(1)))
    assert caught.value.code == code


@pytest.mark.slow
def test_a_probe_or_its_name_is_as_good_as_its_images(pair):
    probe = batteries.probe("noise16-64")
    by_images = composer.compose(pair, probe=probe.images).consensus
    for given in (probe, "noise16-64"):
        found = composer.compose(pair, probe=given).consensus
        assert found.probe == by_images.probe
    container = composer.compose(pair)
    assert composer.align(container, "noise16-64").probe == by_images.probe
