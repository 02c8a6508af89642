"""Faults planted in cells that ship, found by numbers alone: every digest is made right again before the cell is looked at."""

import dataclasses
import functools
import itertools
import math
import random
import re

import numpy as np
import pytest
import torch

import registry
from batteries import CellSpec, PatchSVAE, measure, probe, untrained
from batteries.cell import weights_file
from batteries.cell.cell import Cell, file_facts
from batteries.cell.manifest import DegenerateFigure
from batteries.cell.spec import PRESETS
from batteries.errors import FormatError, PolicyError
from batteries.model.patch_svae import arrays_of
from batteries.packaging.package import UNTRAINED_SEED
from registry import open_store
from registry.transfer import remeasure
from registry.transfer.remeasure import measure_again
from registry.transfer.weight_checks import LARGEST, check_weights, replay
from tests.support.cells import SPEC, python, tiny
from tests.support.soak import SOAK, many

pytestmark = pytest.mark.filterwarnings("ignore::registry.YankedWarning")  # every version is pulled
FLIPS = many(40, 1000)  # in all cells together
MOST_MISSED = 0.01  # of the flips of an exponent's bit


def shipped():
    """Every version of every cell that ships."""
    index = registry.Index.from_bytes(open_store().read_index(), where="the embedded index")
    return tuple(f"{path}@{version}" for path, releases in sorted(index.cells.items()) for version in releases)


SHIPPED = shipped()
HIGH, LOW, MID = (name for name in SHIPPED if "fresnel-64@1" in name)  # one of each band; their own probe is the quickest
FURTHER = re.compile(r"-s\d+@|/expert-")  # seeds and experts, which differ from these in nothing but their numbers
LATEST = tuple({name.partition("@")[0]: name for name in SHIPPED if not FURTHER.search(name)}.values())
PLANTED_IN = (HIGH, LOW, MID, *many((), LATEST))


@pytest.fixture(scope="module")
def cells():
    return dict(zip(SHIPPED, registry.pull(*SHIPPED), strict=True))


@pytest.fixture(scope="module")
def here(cells):
    """A cell with the figures that this machine gives it, so that no fault can hide in another one's rounding.

    Each by the formula of its manifest, which that of the readings in the manifest's history is too.
    """

    @functools.cache
    def measured(name):
        cell = cells[name]
        model = PatchSVAE.from_cell(cell)
        figures = {name: measure(model, probe(name), like=like) for name, like in cell.manifest.measured.items()}
        null = untrained(cell.spec, cell.manifest.training.seed + UNTRAINED_SEED)
        nulls = {name: measure(null, probe(name), like=like) for name, like in cell.manifest.untrained.items()}
        return Cell(cell.weights, cell.manifest.model_copy(update={"measured": figures, "untrained": nulls}))

    return measured


@pytest.fixture(scope="module")
def figures_of_few(cells):
    """A cell with the figures of few images."""

    @functools.cache
    def measured(name):
        cell = cells[name]
        model = PatchSVAE.from_cell(cell)
        figures = {name: measure(model, every_fourth(name)) for name in cell.manifest.measured}
        alone = cell.manifest.training.model_copy(update={"trajectory": (), "triage": None})  # readings of the whole probe
        changes = {"measured": figures, "untrained": {}, "training": alone}
        return Cell(cell.weights, cell.manifest.model_copy(update=changes))

    return measured


@pytest.fixture
def of_few(monkeypatch, here, figures_of_few):
    """To plant faults in: on every fourth image and 32 matrices, where they have less to show in than on a whole probe."""
    if SOAK:
        return here
    monkeypatch.setattr(remeasure, "probe", every_fourth)
    monkeypatch.setattr("batteries.measurement.measure.MATRICES", 32)
    return figures_of_few


def every_fourth(name):
    whole = probe(name)
    return dataclasses.replace(whole, images=whole.images[::4], group=whole.group[::4])


def changed(cell, arrays):
    """The cell with other tensors, and the right digests of them."""
    weights = {**cell.weights, **{name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}}
    facts = file_facts(weights_file.write(weights), weights)
    return Cell(weights, cell.manifest.model_copy(update={"file": facts}))


def refused(cell, *, exact=False):
    """The figures by which a cell is refused, of the first probe that has some; None where it is not."""
    return next((words for _, words in measure_again(cell, exact=exact) if words), None)


# No false alarm.


def test_the_numbers_of_every_cell_that_ships_are_sound(cells):
    for name, cell in cells.items():
        check_weights(cell.weights, cell.spec, where=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", many(PLANTED_IN, SHIPPED))
def test_a_cell_that_ships_measures_what_it_says(cells, name):
    assert set(replay(cells[name], where=name)) == set(cells[name].manifest.measured)


@pytest.mark.slow
@pytest.mark.parametrize("name", many((MID,), SHIPPED))
def test_a_cell_that_was_measured_here_measures_the_same_to_the_last_bit(here, name):
    assert set(replay(here(name), where=name, exact=True)) == set(here(name).manifest.measured)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("init", ["orthogonal", "kaiming_normal", "xavier_uniform", "small_normal"])
def test_an_untrained_cell_has_weights_like_any_other(preset, init):
    spec = CellSpec.preset(preset, init=init)
    check_weights(arrays_of(untrained(spec, 1)), spec, where=preset)


def test_the_bound_is_far_from_every_cell_that_ships(cells):
    largest = max(float(np.abs(array).max()) for cell in cells.values() for array in cell.weights.values())
    assert largest * 100 < LARGEST


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


MATRICES = [name for name, shape in SPEC.tensor_shapes().items() if name.endswith(".weight") and math.prod(shape) > 1]


@pytest.mark.parametrize("name", SPEC.tensor_shapes())
@pytest.mark.parametrize("value", [0.0, 0.25])
def test_a_tensor_of_one_number(name, value):
    arrays = {**tiny().weights, name: np.full(SPEC.tensor_shapes()[name], value, np.float32)}
    if name not in MATRICES:
        check_weights(arrays, SPEC, where="a cell")  # biases start as zeros
        return
    with pytest.raises(PolicyError, match=name) as caught:
        check_weights(arrays, SPEC, where="a cell")
    assert caught.value.code == "DEAD_TENSOR"


def test_a_norm_may_be_ones_and_not_zeros(cells):
    cell = cells[HIGH]
    norm = "enc_blocks.0.0.weight"
    check_weights({**cell.weights, norm: np.ones_like(cell.weights[norm])}, cell.spec, where="a cell")
    with pytest.raises(PolicyError, match="DEAD_TENSOR"):
        check_weights({**cell.weights, norm: np.zeros_like(cell.weights[norm])}, cell.spec, where="a cell")


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.update(stray=np.zeros(1, np.float32)),
        lambda arrays: arrays.pop("enc_in.bias"),
        lambda arrays: arrays.update({"enc_out.weight": arrays["enc_out.weight"].T}),
        lambda arrays: arrays.update({"enc_in.bias": arrays["enc_in.bias"].astype(np.float64)}),
        lambda arrays: arrays.update({"enc_in.bias": arrays["enc_in.bias"].astype(np.int32)}),
    ],
)
def test_tensors_of_another_name_shape_or_type(change):
    arrays = dict(tiny().weights)
    change(arrays)
    with pytest.raises(FormatError, match="TENSORS"):
        check_weights(arrays, SPEC, where="a cell")


@pytest.mark.slow
def test_torch_is_not_needed_for_the_numbers():
    code = "import sys; from registry.transfer import weight_checks; from tests.support.cells import *; "
    code += "weight_checks.check_weights(tiny().weights, SPEC, where='a cell'); assert 'torch' not in sys.modules"
    done = python(code)
    assert done.returncode == 0, done.stderr


# Faults that are numbers like any others.


def permuted(array, rng):
    """In another order, truly: tensors of three numbers come back as they were now and then."""
    while np.array_equal(other := rng.permutation(array.reshape(-1)).reshape(array.shape), array):
        pass
    return other


@torch.no_grad()
def works_otherwise(faulty, cell):
    """Whether a fault changes any bit that comes out: one in a saturated attention does not, and no figure can find it."""
    images = probe(cell.manifest.own_probe).images
    outputs = [PatchSVAE.from_cell(one)(images) for one in (faulty, cell)]
    return not all(torch.equal(*(getattr(output, part) for output in outputs)) for part in ("recon", "omega"))


@pytest.mark.slow
@pytest.mark.parametrize("name", many((HIGH, LOW), PLANTED_IN))
def test_a_permuted_tensor_is_found_always(of_few, name):
    cell, rng = of_few(name), np.random.default_rng(1)
    assert not refused(cell, exact=True)
    planted = {key: changed(cell, {key: permuted(array, rng)}) for key, array in cell.weights.items()}
    assert {
        key for key, faulty in planted.items() if not refused(faulty, exact=True) and works_otherwise(faulty, cell)
    } == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", many((MID,), PLANTED_IN))
def test_a_structural_fault_is_found_always(of_few, name):
    cell = of_few(name)
    assert not refused(cell, exact=True)
    planted = {what: changed(cell, arrays) for what, arrays in share_of(name, [*structural(cell.weights)])}
    missed = {what for what, faulty in planted.items() if not refused(faulty, exact=True) and works_otherwise(faulty, cell)}
    assert missed == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", many(PLANTED_IN[-1:], PLANTED_IN))
def test_what_another_machine_would_still_find(of_few, name):
    """Within another machine's rounding lies, of all of these, only what attention hardly uses."""
    cell, rng = of_few(name), np.random.default_rng(1)
    assert not refused(cell)
    faults = [(key, {key: permuted(array, rng)}) for key, array in cell.weights.items()]
    every = [*faults, *structural(cell.weights)]
    missed = {what for what, arrays in share_of(name, every) if not refused(changed(cell, arrays))}
    assert {what for what in missed if not what.startswith("cross_attn")} == set()


def share_of(name, faults):
    """Every fault in one version of each band, and a twelfth in each further one: a version has hundreds, of seconds each."""
    place = PLANTED_IN.index(name)
    step = many(3, 1) if name in (HIGH, LOW, MID) else 12
    return faults[place % step :: step]


def structural(weights):
    """Exchanged tensors, zeros, another scale, rows in another order, a matrix on its side."""
    for first, second in itertools.combinations(sorted(weights), 2):
        if weights[first].shape == weights[second].shape:
            yield f"{first} and {second}", {first: weights[second], second: weights[first]}
    for name, array in weights.items():
        yield f"{name} zeros", {name: np.zeros_like(array)}
        yield f"{name} larger", {name: array * 1.1}
        if array.ndim > 1:
            yield f"{name} rolled", {name: np.roll(array, 1, axis=0)}
        if array.ndim == 2 and array.shape[0] == array.shape[1]:
            yield f"{name} turned", {name: array.T}


@pytest.mark.slow
def test_a_flipped_bit_of_an_exponent_is_found_nearly_always(of_few):
    rng, missed = random.Random(3), []
    for n in range(FLIPS):
        name = PLANTED_IN[n % len(PLANTED_IN)]
        cell = of_few(name)
        what, arrays = flipped(cell.weights, rng)
        if not all(np.isfinite(array).all() for array in arrays.values()):
            with pytest.raises(PolicyError, match="NON_FINITE"):
                check_weights({**cell.weights, **arrays}, cell.spec, where=name)
        elif not refused(changed(cell, arrays)):
            missed.append((name, what))
    assert len(missed) <= MOST_MISSED * FLIPS, missed


def flipped(weights, rng):
    """One bit of the exponent of one weight, each as likely."""
    at = rng.randrange(sum(array.size for array in weights.values()))
    for name in weights:
        if at < weights[name].size:
            break
        at -= weights[name].size
    array = weights[name]
    bits = np.array(array).reshape(-1).view(np.uint32)
    bit = rng.randrange(8)
    bits[at] ^= np.uint32(1 << (23 + bit))
    return f"bit {bit} of {name}[{at}]", {name: bits.view(np.float32).reshape(array.shape)}


# What replay says, and what it cannot say.


@pytest.mark.slow
def test_it_says_what_is_wrong(cells):
    cell = cells[MID]
    with pytest.raises(PolicyError) as caught:
        replay(changed(cell, {"dec_out.bias": -cell.weights["dec_out.bias"]}), where="a cell")
    assert (caught.value.code, caught.value.exit_code) == ("REPLAY_MISMATCH", 6)
    assert "photos-64: MSE " in str(caught.value)
    assert "claimed, " in str(caught.value)
    assert "noise16-64: MSE " in str(caught.value)


def claimed(cell, **fields):
    """The cell with other claims about its own probe."""
    manifest = cell.manifest
    own = manifest.own.model_copy(update=fields)
    return Cell(cell.weights, manifest.model_copy(update={"measured": {**manifest.measured, manifest.own_probe: own}}))


def on_its_own_probe(cell):
    """The cell without its other figures."""
    return Cell(
        cell.weights,
        cell.manifest.model_copy(update={"measured": {cell.manifest.own_probe: cell.manifest.own}, "untrained": {}}),
    )


@pytest.mark.slow
def test_a_claim_that_the_weights_do_not_keep(cells):
    cell = on_its_own_probe(cells[MID])
    own = cell.manifest.own
    lies = {
        "MSE -0.0076": {"mse": own.mse.model_copy(update={"value": -own.mse.value})},
        "CV 0.415": {"cv": own.cv.model_copy(update={"value": own.cv.value + 0.02})},
        "CV flat rows claimed, 0.39": {"cv": DegenerateFigure(degenerate="flat rows")},
        "effective rank": {"effective_rank": own.effective_rank.model_copy(update={"value": 3.0})},
        "S[0]": {"spectrum": (own.spectrum[0] + 1e-5, *own.spectrum[1:])},
        "width 7 claimed, 8 measured": {"spectrum": own.spectrum[:-1]},
        "groups [] claimed": {"mse_by_group": {}},
    }
    for words, fields in lies.items():
        with pytest.raises(PolicyError, match="REPLAY_MISMATCH") as caught:
            replay(claimed(cell, **fields), where="a cell")
        assert words in str(caught.value)


@pytest.mark.slow
def test_a_probe_that_is_not_ours_is_not_replayed(cells):
    assert replay(tiny(), where="a cell") == ()
    cell = cells[MID]
    assert replay(claimed(cell, probe_digest="0" * 64), where="a cell") == ("noise16-64",)


@pytest.mark.slow
def test_relabelled_hidden_units_are_the_same_cell(cells):
    """The order of hidden units is nobody's business as long as every tensor agrees on it."""
    cell = on_its_own_probe(cells[MID])
    first, second, third = "enc_blocks.0.1.weight", "enc_blocks.0.1.bias", "enc_blocks.0.3.weight"
    order = np.random.default_rng(4).permutation(cell.spec.hidden)
    weights = cell.weights
    same = {first: weights[first][order], second: weights[second][order], third: weights[third][:, order]}
    assert refused(changed(cell, same)) is None


@pytest.mark.slow
def test_the_own_probe_comes_first(cells):
    cell = cells[MID]
    assert [name for name, _ in measure_again(cell, exact=False)] == ["photos-64", "noise16-64"]
