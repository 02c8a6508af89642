"""What a map was fitted on: its ends, the way back, two maps in a row, and ends that changed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from batteries.errors import InputError, IntegrityError
from composer.procrustes.provenance import Pairing, digest_of
from composer.procrustes.similarity import fit
from tests.composer.procrustes.test_procrustes import draw

ENDS = st.sampled_from("abcd")


def pairing(source="a", target="b", **changes):
    return Pairing(**{"kind": "omega", "grid": (4, 4), "probe": "images", "source": source, "target": target} | changes)


@given(ENDS, ENDS, ENDS, ENDS)
def test_laws_of_ways_back_and_of_two_in_a_row(a, b, c, d):
    one, two, three = pairing(a, b), pairing(b, c), pairing(c, d)
    assert one.inverse().inverse() == one
    assert one.then(two).then(three) == one.then(two.then(three)) == pairing(a, d)
    assert one.then(two).inverse() == two.inverse().then(one.inverse())
    assert one.then(one.inverse()) == pairing(a, a)


@pytest.mark.parametrize(
    "other", [pairing("c"), pairing("b", kind="S"), pairing("b", grid=(2, 2)), pairing("b", probe="other images")]
)
def test_what_does_not_follow_is_refused(other):
    with pytest.raises(InputError) as caught:
        pairing().then(other)
    assert caught.value.code == "ENDS"


def test_an_end_that_changed_is_refused_by_name():
    pairing().check()
    pairing().check(source="a", target="b")
    for ends, found in (({"source": "c"}, "c"), ({"source": "a", "target": "d"}, "d")):
        with pytest.raises(IntegrityError) as caught:
            pairing().check(**ends, where="low/x")
        assert (caught.value.code, caught.value.found, caught.value.where) == ("END_CHANGED", found, "low/x")


def test_a_digest_is_of_shape_and_values_and_not_of_how_they_are_held():
    values = draw(3, 4).float()
    same = (values, values.double(), values.T.contiguous().T, values.clone().requires_grad_())
    assert len({digest_of(one) for one in same}) == 1
    other = values.clone()
    other[1, 1] += 1e-6
    assert len({digest_of(one) for one in (values, other, values.T, values.flatten(), values[:2])}) == 5
    assert digest_of(torch.ones(())) != digest_of(torch.ones(1))


def test_maps_carry_their_ends_along():
    x, y, z = (draw(9, 2, seed=i) for i in range(3))
    first, second = fit(x, y), fit(y, z)
    assert first.then(second).pairing is None
    first, second = (type(one)(**{**vars(one), "pairing": p}) for one, p in ((first, pairing()), (second, pairing("b", "c"))))
    assert first.then(second).pairing == pairing("a", "c")
    assert first.inverse().pairing == pairing("b", "a")
    assert first.then(fit(y, z)).pairing is None
    with pytest.raises(InputError) as caught:
        second.then(first)
    assert caught.value.code == "ENDS"
