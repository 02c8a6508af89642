"""Arrays taken apart: which bank is which battery in which phase, their names, versions and claims."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

import batteries
from batteries.errors import InputError
from batteries.packaging import adoptable, opened, shelf
from batteries.packaging.checkpoint_places import CheckpointFile, files_at, local_file
from batteries.packaging.foreign_array import array_in
from tests.support.cells import tiny
from tests.support.checkpoints import LABEL, PLAIN
from tests.support.public_arrays import PHASES, config_of, rows_of, saved_array
from tests.support.public_models import Public

BASE = Public()


def taken_apart(path, **said):
    """Name and version by key."""
    (item,) = shelf.items([local_file(path)], said)
    return {one.options.key: (one.run, one.version) for one in shelf.cells_of(item, opened(item.file))}


def claims(path, key):
    return adoptable(path, key=key, options={}).claimed


def test_a_bank_is_of_a_battery_in_a_phase(tmp_path):
    path = saved_array(tmp_path, [BASE] * 6, config_of(BASE, rows_of(2), PHASES, n_batteries=2, array_spec_name="h2_64"))
    assert taken_apart(path) == {
        "banks.0": ("quads-quad_0", "0.1.0"),
        "banks.1": ("quads-quad_0", "2.0.0"),
        "banks.2": ("quads-quad_0", "1.0.0"),
        "banks.3": ("quads-quad_1", "0.1.0"),
        "banks.4": ("quads-quad_1", "2.0.0"),
        "banks.5": ("quads-quad_1", "1.0.0"),
    }
    found = claims(path, "banks.4")
    assert (found.epoch, found.test_mse, found.dataset) == (2, 0.25, "noise_types 0, 1")
    assert taken_apart(path, key="banks.4") == {"banks.4": ("quads-quad_1", "2.0.0")}


def test_a_failed_row_shifts_no_other(tmp_path):
    rows = [row for row in rows_of(3) if row["battery_id"] != 1]
    path = saved_array(tmp_path, [BASE] * 9, config_of(BASE, rows, PHASES, n_batteries=3, array_spec_name="h2_64"))
    found = taken_apart(path)
    assert [found[f"banks.{i}"][0] for i in (2, 5, 8)] == ["quads-quad_0", "h2_64-1", "quads-quad_2"]
    assert claims(path, "banks.5") is None
    assert claims(path, "banks.8").dataset == "noise_types 0, 2"


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (["a", "b/c.pt", {"name": "d", "phase": "best"}], ["a", "b-c", "d_best"]),
        (["a", "b", "a"], ["a-0", "b", "a-2"]),
        ([{"source": "x.safetensors"}, None, {"variant": "v", "name": " "}], ["x", "array-1", "v"]),
        ([{"name": "é\udc80"}, {"name": 3}, {"name": ["a"]}], ["array-0", "array-1", "array-2"]),
        ([{"name": "../../etc"}, {"name": "\x1b[31m"}, {"name": "x" * 10_000}], ["..-..-etc", "\x1b[31m", "x" * 10_000]),
        (["a", "b"], ["array-0", "array-1", "array-2"]),
        (list("abcd"), ["array-0", "array-1", "array-2"]),
        ([{"battery_id": 0, "name": "a"}] * 3, ["array-0", "array-1", "array-2"]),
        ([{"battery_id": 2 - n, "name": str(n)} for n in range(3)], ["2", "1", "0"]),
        ([{"battery_id": True, "name": "a"}, "b", "c"], ["array-0", "array-1", "array-2"]),
        (None, ["array-0", "array-1", "array-2"]),
    ],
)
def test_names_of_banks(tmp_path, rows, names):
    found = taken_apart(saved_array(tmp_path, [BASE] * 3, config_of(BASE, rows)))
    assert [run for run, _ in found.values()] == names


def test_phases_of_a_battery_with_one_name_are_versions(tmp_path):
    rows = [{"name": "a", "phase": phase} for phase in PHASES]
    assert list(taken_apart(saved_array(tmp_path, [BASE] * 3, config_of(BASE, rows))).values()) == [
        ("a", "0.1.0"),
        ("a", "2.0.0"),
        ("a", "1.0.0"),
    ]


def test_gaps_keep_the_numbers_of_the_others(tmp_path):
    path = saved_array(tmp_path, {0: BASE, 2: BASE, 10: BASE}, config_of(BASE, [f"b{n}" for n in range(11)]))
    assert taken_apart(path) == {"banks.0": ("b0", None), "banks.2": ("b2", None), "banks.10": ("b10", None)}
    with pytest.raises(InputError, match=r"banks\.0, banks\.2, banks\.10, got banks\.1.*KEY"):
        adoptable(path, key="banks.1", options={})


def test_claims_are_those_that_have_the_type_of_one(tmp_path):
    rows = [
        {"name": "a", "dataset": "shapes", "epoch": 3, "test_mse": 0.5, "lr": 1e-3},
        {"name": "b", "dataset": 5, "epoch": -1, "test_mse": math.nan, "lr": "fast"},
        {"name": "c", "dataset": "\udc80", "epoch": 10**400, "test_mse": 10**400, "lr": True},
    ]
    path = saved_array(tmp_path, [BASE] * 3, config_of(BASE, rows))
    assert claims(path, "banks.0").model_dump() == {"epoch": 3, "test_mse": 0.5, "dataset": "shapes", "rate": 1e-3}
    assert claims(path, "banks.1") is None
    assert claims(path, "banks.2").model_dump() == {"epoch": None, "test_mse": None, "dataset": r"\udc80", "rate": None}


def test_an_array_needs_a_key_in_python(tmp_path):
    path = saved_array(tmp_path, [BASE, BASE])
    with pytest.raises(InputError, match=r"banks\.0, banks\.1, got no key.*KEY") as caught:
        batteries.adopt(path, label=LABEL, input=PLAIN, source=batteries.NoiseSource())
    assert "adopt all of them" in str(caught.value)


def test_too_many_banks_are_refused(tmp_path):
    tensors = {f"banks.{n}.enc_in.weight": torch.zeros(1) for n in range(4097)}
    with pytest.raises(batteries.FormatError, match="4096, got 4097"):
        array_in(tensors, local_file(tmp_path / "x.safetensors"))


def test_models_and_cells_of_an_earlier_run_are_no_checkpoints(tmp_path):
    saved_array(tmp_path, [BASE])
    tiny().write(tmp_path / "high")
    header = json.dumps({"__metadata__": {"svae-batteries.model": "x"}}, separators=(",", ":")).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert [file.inside.name for file in files_at(str(tmp_path))] == ["array.safetensors"]


def held(tensors, config):
    """A file in memory."""

    def beside(name):
        assert name == "config.json"
        return json.dumps(config).encode()

    return CheckpointFile("x", local_file("x.safetensors").inside, lambda: save(tensors), beside)


@given(batteries_=st.integers(1, 5), phases=st.lists(st.sampled_from("abcdef"), unique=True, max_size=4), data=st.data())
def test_each_bank_has_its_own_row_whatever_rows_failed(batteries_, phases, data):
    count = max(1, len(phases))
    known = data.draw(st.sets(st.integers(0, batteries_ - 1), min_size=1))
    rows = data.draw(st.permutations([row for row in rows_of(batteries_, phases) if row["battery_id"] in known]))
    indices = {*data.draw(st.sets(st.integers(0, batteries_ * count - 1))), batteries_ * count - 1}
    file = held(
        {f"banks.{i}.x": torch.tensor([float(i)]) for i in indices}, config_of(BASE, rows, phases, n_batteries=batteries_)
    )
    found = opened(file).array.banks
    assert list(found) == [f"banks.{i}" for i in sorted(indices)]
    for key, bank in found.items():
        index = int(bank.loaded[key]["x"])
        assert (key, bank.battery) == (f"banks.{index}", index // count)
        assert bank.phase == (phases[index % count] if phases else None)
        assert bank.title == (f"quads/quad_{bank.battery}" if bank.battery in known else None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
KEYS = st.sampled_from(("battery_kwargs", "batteries", "epoch_phase_names", "n_batteries", "array_spec_name", "dataset"))
BANKS = {f"banks.{i}.{name}": tensor.clone() for i in range(2) for name, tensor in BASE.state().items()}


@settings(max_examples=40)
@given(st.dictionaries(KEYS, JSON, max_size=6) | JSON)
def test_any_config_is_read_or_refused_with_a_code(config):
    code, file = None, held(BANKS, config)
    try:
        cells = shelf.cells_of(*shelf.items([file], {}), opened(file))
        names = {(one.run, one.version) for one in cells}
        spec = adoptable(cells[1].opened, key=cells[1].options.key, options={}).spec
    except batteries.BatteriesError as error:
        code = error.code
    assert code in {"CONFIG", "FUNCTION", "SPEC"} or (len(names), spec.D) == (2, 4)
