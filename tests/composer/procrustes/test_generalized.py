"""The consensus frame: copies meet in it, its order does not matter, rows may be missing, and a new cell joins by one map."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from batteries.errors import InputError
from composer.procrustes.fixed_point import frames_of
from composer.procrustes.generalized import change, generalised, map_into, maps_into
from composer.procrustes.similarity import fit
from tests.composer.procrustes.test_procrustes import draw, rotation

LAW = settings(deadline=None, max_examples=30)
SEEDS, CELLS = st.integers(0, 1000), st.integers(2, 5)


def turned(x, cells, noise=0.0):
    """Copies of tokens under similarities, every other one mirrored."""
    n, d = x.shape
    return [
        (i + 1) * (x + noise * draw(n, d, seed=50 + i)) @ rotation(d, i, reflect=bool(i % 2)) + draw(d, seed=10 + i)
        for i in range(cells)
    ]


@pytest.mark.slow
@LAW
@given(SEEDS, CELLS)
def test_copies_under_any_similarity_meet_in_the_frame(seed, cells):
    tokens = turned(draw(40, 6, seed=seed), cells)
    frame = generalised(tokens)
    mapped = [one(t) for one, t in zip(maps_into(frame, tokens), tokens, strict=True)]
    assert all(torch.allclose(m, frame.tokens, atol=1e-6) for m in mapped)
    assert frame.tokens.square().sum(dim=1).mean().item() == pytest.approx(1)
    assert torch.allclose(frame.tokens.mean(dim=0), torch.zeros(6, dtype=torch.float64), atol=1e-12)
    assert frame.residual == pytest.approx(0, abs=1e-12)


def test_the_frame_is_a_fixed_point_and_does_not_depend_on_the_order():
    tokens = turned(draw(80, 6), 4, noise=0.5)
    forwards, backwards = generalised(tokens), generalised(tokens[::-1])
    assert forwards.residual == pytest.approx(backwards.residual, rel=1e-9)
    assert change(forwards, backwards) < 1e-9
    to_frame, to_first = (sum(float(fit(t, y).residual) for t in tokens) for y in (forwards.tokens, tokens[0]))
    assert to_frame < to_first


def test_the_frame_is_nearer_to_what_is_hidden_than_any_cell():
    hidden = draw(200, 6)
    tokens = turned(hidden, 8, noise=0.5)
    assert float(fit(generalised(tokens).tokens, hidden).residual) < min(float(fit(t, hidden).residual) for t in tokens) / 4


@pytest.mark.slow
@LAW
@given(SEEDS, CELLS)
def test_missing_rows_are_told_by_the_cells_that_have_them(seed, cells):
    x = draw(40, 4, seed=seed)
    tokens = turned(x, cells)
    rows = torch.rand(cells, 40, generator=torch.Generator().manual_seed(seed)) < 0.7
    rows[:, :10] = True
    rows[0, :] = True
    for own, there in zip(tokens, rows, strict=True):
        own[~there] = torch.nan
    frame = generalised(tokens, rows)
    assert bool(frame.rows.all())
    assert float(fit(frame.tokens, x).residual) < 1e-8
    mapped = [one(t) for one, t in zip(maps_into(frame, tokens, rows), tokens, strict=True)]
    assert all(torch.allclose(m[there], frame.tokens[there], atol=1e-3) for m, there in zip(mapped, rows, strict=True))


def test_no_rows_masked_is_no_mask_and_a_row_of_no_cell_is_left_out():
    tokens = turned(draw(40, 4), 3, noise=0.3)
    every = torch.ones(3, 40, dtype=torch.bool)
    assert torch.allclose(generalised(tokens).tokens, generalised(tokens, every).tokens, atol=1e-6)
    every[:, 30:] = False
    frame, fewer = generalised(tokens, every), generalised([t[:30] for t in tokens])
    assert int(frame.rows.sum()) == 30
    assert torch.allclose(frame.tokens[:30], fewer.tokens, atol=1e-8)
    assert not bool(frame.tokens[30:].any())


def test_narrower_cells_are_padded():
    hidden = draw(60, 3)
    tokens = [hidden @ rotation(3, 1), torch.nn.functional.pad(hidden, (0, 2)) @ rotation(5, 2), hidden @ rotation(3, 3)]
    frame = generalised(tokens)
    assert frame.width == 5
    assert [one.padded for one in maps_into(frame, tokens)] == [(2, 0), (0, 0), (2, 0)]
    mapped = [one(t) for one, t in zip(maps_into(frame, tokens), tokens, strict=True)]
    assert all(torch.allclose(m, frame.tokens, atol=1e-6) for m in mapped)


def test_a_new_cell_joins_a_frame_by_one_map():
    hidden = draw(60, 4)
    tokens = turned(hidden, 4, noise=0.2)
    frame = generalised(tokens[:3])
    kept = frame.tokens.clone()
    mapped = map_into(frame, tokens[3])
    assert torch.equal(frame.tokens, kept)
    assert float((mapped(tokens[3]) - frame.tokens).square().sum() / frame.tokens.square().sum()) < 0.1
    assert map_into(frame, draw(60, 2), unequal="pad").padded == (2, 0)
    assert map_into(frame, draw(60, 9), unequal="project")(draw(5, 9)).shape == (5, 4)
    with pytest.raises(InputError) as caught:
        map_into(frame, draw(60, 9))
    assert caught.value.code == "WIDER"


def test_a_frame_changes_little_for_a_kindred_cell_and_more_for_a_stranger():
    tokens = turned(draw(60, 4), 4, noise=0.2)
    frame = generalised(tokens[:3])
    kindred, stranger = (generalised([*tokens[:3], new]) for new in (tokens[3], draw(60, 4, seed=99)))
    assert change(frame, frame) == pytest.approx(0, abs=1e-12)
    assert 0 < change(frame, kindred) < 0.02
    assert change(frame, stranger) > 3 * change(frame, kindred)


@pytest.mark.parametrize(
    ("code", "tokens", "rows"),
    [
        ("PAIRS", [], None),
        ("PAIRS", [draw(9, 2), draw(8, 2)], None),
        ("CONSTANT", [draw(9, 2), torch.ones(9, 2)], None),
        ("NOT_FINITE", [draw(9, 2), torch.full((9, 2), torch.nan)], None),
        ("NO_ROWS", [draw(9, 2), draw(9, 2)], torch.stack([torch.ones(9), torch.zeros(9)])),
        ("NO_ROWS", [draw(9, 2), draw(9, 2)], torch.stack([torch.arange(9) < 5, torch.arange(9) >= 5])),
    ],
)
def test_what_has_no_consensus_is_refused_by_name(code, tokens, rows):
    with pytest.raises(InputError) as caught:
        generalised(tokens, rows)
    assert caught.value.code == code


def test_a_frame_stays_where_it_is_even_along_axes_on_which_cells_hardly_agree():
    """Where plain turning and averaging still moves after hundreds of rounds: a thousandth of the spread, half of it noise."""
    hidden = draw(100, 6) * torch.tensor([1, 1, 1, 0.03, 0.03, 0.03])
    tokens = [(hidden + 0.03 * draw(100, 6, seed=50 + i)) @ rotation(6, i) for i in range(5)]
    frame = generalised(tokens).tokens
    moved = [own - own.mean(dim=0) for own in tokens]
    once = sum(own / own.norm() @ fit(own, frame).rotation for own in moved)
    once = 10 * once / once.norm()
    assert float((once - frame).norm() / frame.norm()) < 1e-6


def test_many_frames_at_once_are_each_as_by_itself():
    tokens = [draw(50, 4, seed=i) if i % 2 else draw(50, 6, seed=i) for i in range(5)]
    members = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 0, 1, 0], [1, 0, 1, 1, 0], [0, 0, 0, 0, 1]]).bool()
    frames, residual = frames_of(tokens, members)
    assert frames.shape == (4, 50, 6)
    for frame, left, chosen in zip(frames, residual, members, strict=True):
        alone = generalised([own for own, there in zip(tokens, chosen, strict=True) if there])
        assert left == pytest.approx(alone.residual, abs=1e-9)
        assert torch.allclose(frame[:, : alone.width], alone.tokens, atol=1e-5)
        assert frame.square().sum(dim=1).mean().item() == pytest.approx(1)
    assert float(residual[3]) == pytest.approx(0, abs=1e-12)
