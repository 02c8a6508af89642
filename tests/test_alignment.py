"""Procrustes, the consensus frame, pairing by region, and scores that can say no."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import procrustes as scipy_procrustes

from batteries import CellSpec
from batteries.errors import InputError
from composer import compose, procrustes
from composer.alignment import consensus, generalised, held_out_scores
from composer.tokens import coarsest, pad, pool
from tests.making import from_model


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d, seed, reflect=False):
    q = torch.linalg.qr(draw(d, d, seed=seed))[0]
    if (torch.linalg.det(q) < 0) != reflect:
        q[:, 0] = -q[:, 0]
    return q


@given(st.integers(0, 1000), st.integers(2, 16), st.booleans(), st.floats(0.1, 10))
def test_a_planted_similarity_is_recovered(seed, d, reflect, scale):
    x, q, shift = draw(5 * d, d, seed=seed), rotation(d, seed + 1, reflect), draw(d, seed=seed + 2)
    found = procrustes(x, scale * x @ q + shift)
    assert torch.allclose(found.rotation, q, atol=1e-8)
    assert found.scale == pytest.approx(scale)
    assert found.determinant == (-1 if reflect else 1)
    assert found.residual == pytest.approx(0, abs=1e-12)
    assert torch.allclose(found(x), scale * x @ q + shift, atol=1e-8)


@given(st.integers(0, 1000))
def test_scipy_agrees(seed):
    x, y = draw(30, 4, seed=seed), draw(30, 4, seed=seed + 1)
    assert procrustes(x, y).residual == pytest.approx(scipy_procrustes(y.numpy(), x.numpy())[2], abs=1e-10)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(2, 5))
def test_copies_under_any_similarity_meet_in_the_frame(seed, cells):
    x = draw(40, 6, seed=seed)
    tokens = [(i + 1) * x @ rotation(6, seed + i, reflect=bool(i % 2)) + draw(6, seed=seed + 10 + i) for i in range(cells)]
    frame = generalised(tokens)
    mapped = [procrustes(t, frame)(t) for t in tokens]
    assert all(torch.allclose(m, mapped[0], atol=1e-5) for m in mapped)
    assert frame.square().sum(dim=1).mean().item() == pytest.approx(1)


def test_the_frame_is_a_fixed_point_and_does_not_depend_on_the_order():
    hidden = draw(80, 6)
    tokens = [hidden @ rotation(6, i) + 0.5 * draw(80, 6, seed=50 + i) for i in range(4)]

    def residual(frame):
        return sum(procrustes(t, frame).residual for t in tokens)

    forwards, backwards = generalised(tokens), generalised(tokens[::-1])
    assert residual(forwards) == pytest.approx(residual(backwards), rel=1e-6)
    assert residual(forwards) < residual(tokens[0])


def test_related_tokens_have_lift_and_unrelated_ones_do_not():
    hidden = draw(60, 4, 8)
    related = [hidden @ rotation(8, i) + 0.3 * draw(60, 4, 8, seed=20 + i) for i in range(3)]
    for score in held_out_scores(related, seed=0):
        assert score.r2 > 0.7
        assert abs(score.null_mean) < 0.1
        assert score.p_value < 0.05
    misses = 0
    for trial in range(20):
        for score in held_out_scores([draw(60, 4, 8, seed=100 + 2 * trial), draw(60, 4, 8, seed=101 + 2 * trial)], seed=trial):
            assert score.r2 < 0.1
            misses += score.p_value < 0.05
    # 40 scores at level 0.05, two of a pair nearly the same draw: more than 8 has probability below 1% either way
    assert misses <= 8


def test_sorted_positive_tokens_look_alike_until_they_are_centred_and_held_out():
    """The trap: omega of two unrelated cells has cosine near 1 without any fit."""
    one, two = (draw(50, 4, 16, seed=i).abs().sort(dim=-1, descending=True).values for i in (1, 2))
    cosine = torch.nn.functional.cosine_similarity(one.flatten(0, 1), two.flatten(0, 1), dim=-1).mean()
    assert cosine > 0.9
    assert all(abs(score.lift) < 0.1 for score in held_out_scores([one, two], seed=0))


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
def test_pooling_averages_over_regions(gh, gw, p, q):
    tokens = draw(2, gh * p * gw * q, 5)
    pooled = pool(tokens, (gh * p, gw * q), (gh, gw))
    grid = tokens.unflatten(1, (gh * p, gw * q))
    assert torch.allclose(pooled[:, 0], grid[:, :p, :q].mean(dim=(1, 2)))
    assert torch.allclose(pooled.mean(dim=1), tokens.mean(dim=1))


def test_grids():
    assert coarsest([(4, 4), (16, 16), (4, 8)]) == (4, 4)
    with pytest.raises(InputError, match="do not nest"):
        coarsest([(4, 4), (6, 6)])
    assert pad(torch.ones(1, 2, 3), 5).tolist() == [[[1, 1, 1, 0, 0]] * 2]


def test_bad_tokens():
    with pytest.raises(InputError, match="do not pair"):
        procrustes(draw(3, 2), draw(4, 2))
    with pytest.raises(InputError, match="do not vary"):
        procrustes(torch.ones(9, 2), draw(9, 2))
    with pytest.raises(InputError, match="too few images"):
        consensus([draw(3, 4, 2), draw(3, 4, 2)])


def test_compose_maps_mixed_cells_into_one_frame():
    cells = [from_model(CellSpec(V=16, D=8, patch_size=8, hidden=16), i, f"a{i}", band="mid") for i in range(2)]
    cells.append(from_model(CellSpec(V=12, D=4, patch_size=4, hidden=8), 5, "b"))
    x = torch.randn(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    model = compose(cells, probe=x)
    again = compose(cells, probe=x)
    assert model.consensus.width == 8
    assert model.consensus.regions == 4
    assert [s.r2 for s in model.consensus.scores] == [s.r2 for s in again.consensus.scores]
    out = model(x[:2])
    assert [tuple(t.shape) for t in out.omega] == [(2, 4, 8), (2, 4, 8), (2, 16, 8)]
    expected = model.consensus.maps[2](pad(out["high/b"].omega, 8))
    assert torch.equal(out["high/b"].aligned, expected)
    single = compose(cells[:1], probe=x[:2])
    assert single.consensus.scores == ()
