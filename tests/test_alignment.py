"""Many cells into one frame: pairing by region, each cell scored against the others, and maps of a container."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from batteries import CellSpec
from batteries.errors import InputError
from composer import compose
from composer.alignment import consensus, held_out_scores
from composer.tokens import coarsest, pad, pool
from tests.making import from_model
from tests.test_procrustes import draw, rotation


def named(*tokens):
    return dict(zip("abcdefgh", tokens, strict=False))


def test_related_tokens_have_lift_and_unrelated_ones_do_not():
    hidden = draw(60, 4, 8)
    related = [hidden @ rotation(8, i) + 0.3 * draw(60, 4, 8, seed=20 + i) for i in range(3)]
    for score in held_out_scores(related, seed=0):
        assert score.r2 > 0.7
        assert abs(score.shuffled.mean) < 0.1
        assert score.p_value == 1 / 200
    unrelated = [s for t in range(20) for s in held_out_scores([draw(20, 4, 4, seed=100 + 2 * t + i) for i in (0, 1)], seed=t)]
    assert all(score.r2 < 0.1 for score in unrelated)
    # 40 scores at level 0.05, two of a pair nearly the same draw: more than 8 has probability below 1% either way
    assert sum(score.related() for score in unrelated) <= 8


def test_a_stranger_among_kindred_cells_is_told_by_its_score():
    hidden = draw(40, 4, 4)
    cells = [hidden @ rotation(4, i, reflect=i == 1) + 0.3 * draw(40, 4, 4, seed=20 + i) for i in range(3)]
    found = consensus(named(*cells, draw(40, 4, 4, seed=99)))
    assert [score.related() for score in found.scores] == [True, True, True, False]
    assert [p <= 0.05 for p in found.p_values] == [True, True, True, False]
    assert float(found.maps[0].determinant * found.maps[1].determinant) == -1
    assert found.p_values[0] == 4 * found.scores[0].p_value
    assert found.of([3, 0]).scores == (found.scores[3], found.scores[0])


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
    with pytest.raises(InputError, match="too few images"):
        consensus(named(draw(3, 4, 2), draw(3, 4, 2)))
    with pytest.raises(InputError, match="do not vary"):
        consensus(named(draw(8, 4, 2), torch.ones(8, 4, 2)))


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
