"""Axes of rows: what they depend on, how rows are coded by them, and what uniform axes have."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from batteries.errors import InputError
from batteries.geometry import Codebook, uniform_angle

SEEDS, SIZES = st.integers(0, 2**32 - 1), st.tuples(st.integers(2, 24), st.integers(2, 9))


def rows(seed, V, D):
    return torch.randn(V, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(SEEDS, SIZES)
def test_axes_are_unit_and_each_row_is_of_one(seed, size):
    found = Codebook.of_rows(rows(seed, *size))
    assert len(found.axes) == size[0] - len(found.pairs)
    torch.testing.assert_close(found.axes.norm(dim=1), torch.ones(len(found.axes), dtype=torch.float64))
    assert 0 <= found.angle <= math.pi / 2 or len(found.axes) == 1


@settings(max_examples=25, deadline=None)
@given(SEEDS, SIZES, st.floats(0.1, 10))
def test_lengths_do_not_matter_and_neither_does_a_rotation(seed, size, scale):
    given_rows = rows(seed, *size)
    turn = torch.linalg.qr(rows(seed + 1, size[1], size[1])).Q
    found = Codebook.of_rows(given_rows)
    torch.testing.assert_close(Codebook.of_rows(given_rows * scale).axes, found.axes)
    if len(found.axes) > 1:
        assert Codebook.of_rows(given_rows @ turn).deviation == pytest.approx(found.deviation, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(SEEDS, SIZES)
def test_quantising_is_a_projection_onto_the_nearest_end(seed, size):
    found, others = Codebook.of_rows(rows(seed, *size)), rows(seed + 1, 7, size[1])
    near = found.quantise(others)
    assert torch.equal(found.quantise(near), near)
    assert torch.equal(found.quantise(-others), -near)
    ends = torch.cat([found.axes, -found.axes])
    unit = others / others.norm(dim=1, keepdim=True)
    torch.testing.assert_close((unit * near).sum(dim=1), (unit @ ends.T).max(dim=1).values)


def test_opposite_rows_are_one_axis_and_its_ends():
    given_rows = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.01, 0.0], [0.0, 1.0, 0.0]])
    found = Codebook.of_rows(given_rows)
    assert found.pairs == ((0, 2),)
    assert len(found.axes) == 3
    assert found.encode(given_rows).axis.tolist() == [0, 1, 0, 2]
    assert found.encode(given_rows).sign.tolist() == [1, -1, -1, 1]
    assert found.bits == math.log2(6)
    assert found.quantise(given_rows).dtype == torch.float32


def test_only_the_most_opposite_of_three_are_a_pair():
    angles = torch.tensor([0.0, math.pi, math.pi - 0.1])
    assert Codebook.of_rows(torch.stack([angles.cos(), angles.sin()], dim=1)).pairs == ((0, 1),)


@pytest.mark.parametrize("D", [2, 3, 4, 5, 8, 16, 33])
def test_angle_of_uniform_axes(D):
    unit = torch.nn.functional.normalize(rows(D, 40_000, D), dim=1)
    angles = (unit[::2] * unit[1::2]).sum(dim=1).abs().acos()
    mean, deviation = uniform_angle(D)
    assert float(angles.mean()) == pytest.approx(mean, abs=4 * deviation / len(angles) ** 0.5)
    assert float(angles.std()) == pytest.approx(deviation, rel=0.03)


def test_chance_is_the_spread_of_uniform_axes():
    books = [Codebook(torch.nn.functional.normalize(rows(seed, 32, 4), dim=1), ()) for seed in range(400)]
    deviations = torch.tensor([book.deviation for book in books])
    assert abs(float(deviations.mean())) < 4 * books[0].chance / 20
    assert float(deviations.std()) == pytest.approx(books[0].chance, rel=0.15)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: Codebook.of_rows(torch.zeros(3, 4)), "NO_AXIS"),
        (lambda: Codebook.of_rows(torch.full((3, 4), math.nan)), "NO_AXIS"),
        (lambda: Codebook.of_rows(torch.ones(4)), "ROWS"),
        (lambda: Codebook.of_rows(torch.ones(1, 4)), "ROWS"),
        (lambda: Codebook.of_rows(torch.eye(4)).encode(torch.ones(2, 3)), "ROWS"),
        (lambda: uniform_angle(1), "WIDTH"),
    ],
)
def test_bad_input(make, code):
    with pytest.raises(InputError) as caught:
        make()
    assert caught.value.code == code
