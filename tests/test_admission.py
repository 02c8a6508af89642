"""Faults planted in cells that ship, found by numbers alone: every digest is made right again before the cell is looked at."""

import math

import numpy as np
import pytest

import registry
from batteries import CellSpec, cellfile, untrained
from batteries.cell import Cell, file_facts
from batteries.errors import PolicyError
from batteries.model import arrays_of
from batteries.spec import PRESETS
from registry import open_store
from registry.admission import LARGEST, check_weights, replay
from tests.making import SPEC, tiny
from tests.soak import SOAK, many

SEED = 7
FLIPS = many(40, 1000)
MOST_MISSED = 0.01  # of the flips of an exponent's bit


def shipped():
    """Every version of every cell that ships."""
    index = registry.Index.from_bytes(open_store().read_index(), where="the embedded index")
    return [f"{path}@{version}" for path, releases in sorted(index.cells.items()) for version in releases]


SHIPPED = shipped()
ONE_A_BAND = ("high/johanna-64", "mid/fresnel-64", "low/johanna-64")
PLANTED_IN = SHIPPED if SOAK else ONE_A_BAND


@pytest.fixture(scope="module")
def cells():
    names = {*SHIPPED, *ONE_A_BAND}
    return dict(zip(names, registry.pull(*names), strict=True))


def changed(cell, **arrays):
    """The cell with other tensors, and a manifest that has the right digests of them."""
    weights = {**cell.weights, **{name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}}
    facts = file_facts(cellfile.write(weights), weights)
    return Cell(weights, cell.manifest.model_copy(update={"file": facts}))


def found(cell):
    """The code by which a cell is refused; None where it is not."""
    try:
        replay(cell, where=cell.name)
    except PolicyError as error:
        return error.code
    return None


# No false alarm.


@pytest.mark.parametrize("name", SHIPPED)
def test_a_cell_that_ships_passes_both(cells, name):
    cell = cells[name]
    check_weights(cell.weights, cell.spec, where=name)
    assert set(replay(cell, where=name)) == set(cell.manifest.measured)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("init", ["orthogonal", "kaiming_normal", "xavier_uniform", "small_normal"])
def test_an_untrained_cell_has_weights_like_any_other(preset, init):
    spec = CellSpec.preset(preset, init=init)
    check_weights(arrays_of(untrained(spec, 1)), spec, where=preset)


def test_the_bound_is_far_from_every_cell_that_ships(cells):
    largest = max(float(np.abs(array).max()) for cell in cells.values() for array in cell.weights.values())
    assert largest * 400 < LARGEST


# The numbers alone.


def with_value(name, value):
    arrays = {key: np.array(array) for key, array in tiny().weights.items()}
    arrays[name].flat[-1] = value
    return arrays


@pytest.mark.parametrize("name", sorted(SPEC.tensor_shapes()))
@pytest.mark.parametrize(
    ("value", "code"),
    [(np.nan, "NON_FINITE"), (np.inf, "NON_FINITE"), (-np.inf, "NON_FINITE"), (1e30, "OUT_OF_RANGE"), (-1001, "OUT_OF_RANGE")],
)
def test_a_value_that_no_cell_has(name, value, code):
    with pytest.raises(PolicyError) as caught:
        check_weights(with_value(name, value), SPEC, where="a cell")
    assert caught.value.code == code
    assert name in str(caught.value)


@pytest.mark.parametrize("name", sorted(name for name, shape in SPEC.tensor_shapes().items() if math.prod(shape) > 1))
@pytest.mark.parametrize("value", [0.0, 0.25])
def test_a_tensor_of_one_number(cells, name, value):
    cell = cells["low/johanna-64"]
    matrix = name.endswith(".weight") and (name not in cell.weights or cell.weights[name].ndim > 1)
    arrays = {**tiny().weights, name: np.full(SPEC.tensor_shapes()[name], value, np.float32)}
    if not matrix:
        return check_weights(arrays, SPEC, where="a cell")  # biases start as zeros
    with pytest.raises(PolicyError, match=name) as caught:
        check_weights(arrays, SPEC, where="a cell")
    assert caught.value.code == "DEAD_TENSOR"
    return None
