"""Checkpoints of narrow readouts: what tensors tell, what they do not, and contradictions."""

import pytest

from batteries.errors import BatteriesError
from batteries.packaging.foreign_cell import adoptable
from tests.support.checkpoints import SPEC, saved, state

OPTIONS = {"heads": 2}


def spec_of(readout):
    return SPEC.model_copy(update={"readout": readout})


@pytest.mark.parametrize(
    ("readout", "option"),
    [("narrow", None), ("narrow", "narrow"), ("narrow_norm", "narrow_norm"), ("narrow_sphere", "narrow_sphere")],
)
def test_tensors_and_the_option_tell_the_readout(tmp_path, readout, option):
    path = saved(tmp_path, state(spec_of(readout)))
    found = adoptable(path, options=OPTIONS | {"readout": option})
    assert found.spec == spec_of(readout)
    assert found.arrays.keys() == spec_of(readout).tensor_shapes().keys()


@pytest.mark.parametrize("readout", ["narrow_norm", "narrow_sphere"])
def test_a_config_tells_it_too(tmp_path, readout):
    path = saved(tmp_path, {"model_state_dict": state(spec_of(readout)), "config": {"readout": readout}})
    assert adoptable(path, options=OPTIONS).spec.readout == readout


def test_two_readouts_of_the_same_tensors_are_not_guessed(tmp_path):
    with pytest.raises(BatteriesError) as caught:
        adoptable(saved(tmp_path, state(spec_of("narrow_sphere"))), options=OPTIONS)
    assert caught.value.code == "READOUT"
    assert caught.value.expected == "narrow_norm or narrow_sphere"
    assert "--readout NAME" in caught.value.remedy


@pytest.mark.parametrize(
    ("readout", "option", "expected"),
    [
        ("narrow", "svd", "narrow"),
        ("narrow", "narrow_norm", "narrow"),
        ("narrow_norm", "narrow", "narrow_norm | narrow_sphere"),
        ("svd", "narrow", "svd | none"),
        ("linear", "narrow_sphere", "linear"),
    ],
)
def test_options_that_contradict_the_tensors_are_refused(tmp_path, readout, option, expected):
    path = saved(tmp_path, state(spec_of(readout)))
    with pytest.raises(BatteriesError) as caught:
        adoptable(path, options=OPTIONS | {"readout": option})
    assert (caught.value.code, caught.value.expected) == ("READOUT", expected)
    assert f"readout {option}" in caught.value.found


def test_a_config_that_contradicts_them_is_refused(tmp_path):
    content = {"model_state_dict": state(spec_of("narrow")), "config": {"readout": "linear"}}
    with pytest.raises(BatteriesError) as caught:
        adoptable(saved(tmp_path, content), options=OPTIONS)
    assert caught.value.code == "CONFIG"
    assert "with narrow.*" in caught.value.found
