"""Many cells into one frame: each scored against the others, each map with its ends, and cells that join later."""

import pytest
import torch

from batteries.errors import ConflictError, InputError
from composer.procrustes.consensus import FLOOR, consensus, held_out_scores, joined
from composer.procrustes.generalized import change, generalised
from composer.procrustes.provenance import digest_of
from composer.procrustes.scores import score, shuffles_for
from tests.composer.procrustes.test_procrustes import draw, rotation


def named(*tokens):
    return dict(zip("abcdefgh", tokens, strict=False))


@pytest.mark.slow
def test_related_tokens_have_lift_and_unrelated_ones_do_not():
    hidden = draw(60, 4, 8)
    related = [hidden @ rotation(8, i) + 0.3 * draw(60, 4, 8, seed=20 + i) for i in range(3)]
    for found in held_out_scores(related, seed=0):
        assert found.r2 > 0.7
        assert abs(found.shuffled.mean) < 0.1
        assert found.p_value == 1 / 300
    unrelated = [s for t in range(20) for s in held_out_scores([draw(20, 4, 4, seed=100 + 2 * t + i) for i in (0, 1)], seed=t)]
    assert all(one.r2 < 0.1 for one in unrelated)
    # 40 scores at level 0.05, two of a pair nearly the same draw: more than 8 has probability below 1% either way
    assert sum(one.related() for one in unrelated) <= 8


def test_a_stranger_among_kindred_cells_is_told_by_its_score():
    hidden = draw(40, 4, 4)
    cells = [hidden @ rotation(4, i, reflect=i == 1) + 0.3 * draw(40, 4, 4, seed=20 + i) for i in range(3)]
    found = consensus(named(*cells, draw(40, 4, 4, seed=99)))
    assert [one.related() for one in found.scores] == [True, True, True, False]
    assert [p <= 0.05 for p in found.p_values] == [True, True, True, False]
    assert float(found.maps[0].determinant * found.maps[1].determinant) == -1
    assert found.p_values[0] == 4 * found.scores[0].p_value == FLOOR
    assert found.of([3, 0]).scores == (found.scores[3], found.scores[0])


def test_bad_tokens():
    with pytest.raises(InputError, match="too few images"):
        consensus(named(draw(3, 4, 2), draw(3, 4, 2)))
    with pytest.raises(InputError, match="constant tokens"):
        consensus(named(draw(8, 4, 2), torch.ones(8, 4, 2)))


def kindred(count=4, b=40, d=4):
    hidden = draw(b, 4, d)
    return named(*(hidden @ rotation(d, i) + 0.3 * draw(b, 4, d, seed=20 + i) for i in range(count)))


@pytest.mark.slow
def test_any_number_of_aligned_cells_can_be_found_after_correction():
    """24 cells aligned at once, or one by one, and 3 strangers beside them."""
    hidden = draw(24, 4, 4)
    cells = {f"cell {i}": hidden @ rotation(4, i) + 0.3 * draw(24, 4, 4, seed=20 + i) for i in range(24)}
    strangers = {f"stranger {i}": draw(24, 4, 4, seed=900 + i) for i in range(3)}
    at_once = consensus(cells)
    assert {one.shuffled.draws for one in at_once.scores} == {2399}
    assert max(at_once.p_values) <= FLOOR
    first, *rest = cells
    one_by_one = consensus({first: cells[first]})
    for name in rest:
        one_by_one = joined(one_by_one, {name: cells[name]})
    assert max(one_by_one.p_values) <= FLOOR
    beside = dict(zip((*cells, *strangers), consensus({**cells, **strangers}).p_values, strict=True))
    assert max(beside[name] for name in cells) <= 0.05
    assert min(beside[name] for name in strangers) > 0.1


def test_shuffles_are_bounded(monkeypatch):
    """Shuffles of all cells would otherwise grow with the square of their number."""
    monkeypatch.setattr("composer.procrustes.consensus.MOST_SHUFFLES", 250)
    assert {one.shuffled.draws for one in consensus(kindred(count=2)).scores} == {199}
    assert {one.shuffled.draws for one in consensus(kindred(count=4)).scores} == {250}


@pytest.mark.parametrize(("count", "noise"), [(2, 0.3), (5, 0.3), (5, 3.0), (19, 0.5)])
def test_a_cell_is_scored_against_the_consensus_of_the_others_alone(count, noise):
    """Whatever is computed at once: the same as one consensus after the other, of cells of two widths."""
    hidden, shuffles = draw(24, 4, 3), shuffles_for(count, FLOOR)
    tokens = [hidden @ rotation(3, i) + noise * draw(24, 4, 3, seed=20 + i) for i in range(count)]
    tokens[1] = torch.cat([tokens[1], noise * draw(24, 4, 2, seed=9)], dim=-1)
    for place, found in enumerate(held_out_scores(tokens, seed=3)):
        others = [own.flatten(0, 1) for i, own in enumerate(tokens) if i % 16 != place % 16]
        wanted = score(tokens[place], generalised(others).tokens.unflatten(0, (24, 4)), seed=3, shuffles=shuffles)
        assert found.r2 == pytest.approx(wanted.r2, abs=1e-6)
        assert found.cosine == pytest.approx(wanted.cosine, abs=1e-6)
        assert found.shuffled.mean == pytest.approx(wanted.shuffled.mean, abs=1e-6)


@pytest.mark.slow
def test_unrelated_cells_are_not_drawn_to_each_other_by_the_frame():
    """The frame of many strangers is made to be like all of them; a cell that had no part in it is not like it."""
    found = [s for t in range(25) for s in held_out_scores([draw(20, 4, 3, seed=1000 + 8 * t + i) for i in range(6)], seed=t)]
    assert sum(one.related() for one in found) <= 16, "150 at 0.05: 7.5 and three standard errors"
    assert abs(sum(one.lift for one in found)) / len(found) < 0.01


def test_every_map_knows_its_ends():
    tokens = kindred()
    found = consensus(tokens)
    assert (found.names, found.kind, found.grid, found.probe) == (tuple(tokens), "omega", (1, 4), "")
    assert [one.source for one in found.pairings] == [digest_of(own) for own in tokens.values()]
    assert {one.target for one in found.pairings} == {digest_of(found.frame.tokens)}
    ends = dict.fromkeys(tokens, "0" * 64)
    told = consensus(tokens, kind="S", grid=(2, 2), probe="images", ends=ends)
    assert [one.source for one in told.pairings] == ["0" * 64] * 4
    assert {(one.kind, one.grid, one.probe) for one in told.pairings} == {("S", (2, 2), "images")}
    assert told.of([2]).names == ("c",)


@pytest.mark.slow
def test_who_joins_changes_nobody():
    tokens = kindred(5)
    late = {"e": tokens.pop("e")}
    found = consensus(tokens)
    after = joined(found, late)
    assert after.frame is found.frame
    assert after.maps[:4] == found.maps
    assert after.scores[:4] == found.scores
    assert after.names == ("a", "b", "c", "d", "e")
    assert after.pairings[4].target == found.pairings[0].target
    assert after.scores[4].related()
    mapped = after.maps[4](late["e"]).flatten(0, 1)
    assert float((mapped - after.frame.tokens).square().mean()) < 0.2 * float(after.frame.tokens.square().mean())
    again = consensus({**tokens, **late})
    assert 0 < change(found.frame, again.frame) < 0.01


def test_a_cell_that_was_alone_is_scored_against_who_joins():
    one, other, stranger = (*kindred(2).values(), draw(40, 4, 4, seed=99))
    alone = consensus({"a": one})
    assert alone.scores == ()
    assert [one.related() for one in joined(alone, {"b": other}).scores] == [True, True]
    assert [one.related() for one in joined(alone, {"b": stranger}).scores] == [False, False]


def test_who_cannot_join_is_told_why():
    found = consensus(kindred())
    with pytest.raises(ConflictError) as twice:
        joined(found, {"b": draw(40, 4, 4)})
    assert twice.value.code == "TWICE"
    for code, tokens in (
        ("PAIRS", draw(39, 4, 4)),
        ("PAIRS", draw(160, 4)),
        ("WIDER", draw(40, 4, 6)),
        ("CONSTANT", torch.ones(40, 4, 4)),
        ("NOT_FINITE", torch.full((40, 4, 4), torch.nan)),
    ):
        with pytest.raises(InputError) as caught:
            joined(found, {"new": tokens})
        assert caught.value.code == code
    with pytest.raises(InputError) as caught:
        joined(found, {})
    assert caught.value.code == "PAIRS"


def test_narrower_tokens_are_mapped_as_they_are_or_padded():
    hidden = draw(40, 4, 3)
    found = consensus({"a": hidden @ rotation(3, 1), "b": torch.nn.functional.pad(hidden, (0, 2)) @ rotation(5, 2)})
    assert [one.padded for one in found.maps] == [(2, 0), (0, 0)]
    bare, wide = hidden @ rotation(3, 1), torch.nn.functional.pad(hidden @ rotation(3, 1), (0, 2))
    assert torch.equal(found.maps[0](bare), found.maps[0](wide))
    assert torch.allclose(found.mapped([0], wide[None])[0], found.maps[0](bare))
    assert torch.allclose(found.maps[0](bare).flatten(0, 1), found.frame.tokens, atol=1e-6)


@pytest.mark.parametrize("tokens", [{}, {"a": draw(8, 4)}, {"a": draw(8, 4, 2), "b": draw(4, 8, 2)}])
def test_tokens_that_do_not_pair(tokens):
    with pytest.raises(InputError) as caught:
        consensus(tokens)
    assert caught.value.code == "PAIRS"
