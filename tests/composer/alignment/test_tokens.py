"""Tokens of a cell under their names: what each is made of, what it does not see, and how patches become regions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from batteries import CellSpec
from batteries.errors import InputError, PolicyError
from composer.alignment.tokens import TAPPED, flat, frames, of, width_of
from composer.container.outputs import CellOutput, GroupOutput
from composer.grids import coarsest, pad, pool
from tests.composer.procrustes.test_procrustes import draw, rotation

LAW = settings(deadline=None, max_examples=30)
SEEDS, WIDTHS = st.integers(0, 1000), st.integers(2, 6)
KINDS = tuple(TAPPED)


def cell(M, grid, **tapped):
    """An output of one cell, with M and what else was tapped, each without its axis of cells."""
    return CellOutput(GroupOutput(("a",), grid, {name: tensor[None] for name, tensor in {"M": M, **tapped}.items()}), 0)


def matrices(b, n, v, d, seed=0):
    return torch.nn.functional.normalize(draw(b, n, v, d, seed=seed), dim=-1)


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


@pytest.mark.slow
@LAW
@given(SEEDS, WIDTHS)
def test_flat_matrices_are_as_far_from_each_other_as_before(seed, d):
    one, other = (m + m.mT for m in draw(2, 7, d, d, seed=seed))
    assert flat(one).shape == (7, d * (d + 1) // 2)
    assert torch.allclose((flat(one) * flat(other)).sum(dim=-1), (one * other).sum(dim=(-2, -1)))


@LAW
@given(SEEDS, WIDTHS, st.floats(0.01, 100))
def test_frames_have_neither_signs_nor_scale_nor_singular_values(seed, d, scale):
    M = matrices(1, 3, 4 * d, d, seed=seed)
    moments = M.mT @ M
    found = frames(moments)
    assert torch.allclose(frames(scale * moments), found, atol=1e-10)
    assert torch.allclose(found.square().sum(dim=(-2, -1)), torch.ones(1, 3, dtype=torch.float64))
    signs = torch.where(draw(4 * d, 1, seed=seed) > 0, 1.0, -1.0)
    assert torch.allclose(frames((signs * M).mT @ (signs * M)), found, atol=1e-10)
    values, axes = torch.linalg.eigh(moments)
    other = torch.linspace(1, d, d, dtype=torch.float64) * values.amax(dim=-1, keepdim=True)
    assert torch.allclose(frames(axes * other[..., None, :] @ axes.mT), found, atol=1e-8), "other lengths, the same axes"


@LAW
@given(SEEDS, WIDTHS)
def test_axes_turn_with_the_rows_and_lengths_do_not(seed, d):
    """M -> M R: moments and frames go to R' m R, which moves their flat forms by one orthogonal matrix, and S stays."""
    M, R = matrices(2, 4, 3 * d, d, seed=seed), rotation(d, seed + 1)
    one, other = cell(M, (2, 2)), cell(M @ R, (2, 2))
    for kind in ("moment", "frames"):
        mine, theirs = of(one, kind, (2, 2)), of(other, kind, (2, 2))
        gram = [(x.flatten(0, 1) @ x.flatten(0, 1).T) for x in (mine, theirs)]
        assert torch.allclose(*gram, atol=1e-9), "same lengths and angles"
        assert not torch.allclose(mine, theirs, atol=1e-3)
    assert torch.allclose(of(one, "rows", (2, 2)) @ R, of(other, "rows", (2, 2)))
    assert torch.allclose(torch.linalg.svdvals(M), torch.linalg.svdvals(M @ R))


@LAW
@given(SEEDS, st.integers(1, 2), st.integers(1, 3))
def test_the_moment_of_a_region_is_that_of_all_its_rows(seed, gh, p):
    M = matrices(2, gh * p * p, 5, 3, seed=seed)
    found = of(cell(M, (gh * p, p)), "moment", (gh, 1))
    rows = M.unflatten(1, (gh, p * p)).flatten(2, 3)  # (B, G, p p V, D)
    assert torch.allclose(found, flat(rows.mT @ rows / (p * p * 5)))
    assert torch.allclose(of(cell(M, (gh * p, p)), "frames", (gh, 1)), flat(frames(rows.mT @ rows)), atol=1e-8)


@LAW
@given(SEEDS)
def test_how_many_rows_say_it_does_not_matter(seed):
    M = matrices(2, 4, 6, 3, seed=seed)
    order = torch.randperm(18, generator=torch.Generator().manual_seed(seed))
    more = cell(M.repeat(1, 1, 3, 1)[:, :, order], (2, 2))
    for kind in ("moment", "frames"):
        assert torch.allclose(of(cell(M, (2, 2)), kind, (1, 2)), of(more, kind, (1, 2)), atol=1e-9)


def test_lists_of_lengths_are_averaged_and_rows_by_their_number():
    M, S = matrices(2, 16, 6, 4), draw(2, 16, 4)
    own = cell(M, (4, 4), S=S, omega=2 * S)
    assert torch.equal(of(own, "S", (2, 2)), pool(S, (4, 4), (2, 2)))
    assert torch.equal(of(own, "omega", (2, 2)), pool(2 * S, (4, 4), (2, 2)))
    rows = of(own, "rows", (2, 2))
    assert rows.shape == (2, 4 * 6, 4)
    assert torch.allclose(rows[:, 6 * 1 + 2], M[:, :, 2].unflatten(1, (4, 4))[:, :2, 2:].mean(dim=(1, 2))), "region 1, row 2"


@pytest.mark.parametrize("kind", KINDS)
def test_the_width_is_foretold(kind):
    spec = CellSpec(V=6, D=4, patch_size=4, hidden=8)
    own = cell(matrices(2, 4, 6, 4), (2, 2), S=draw(2, 4, 4), omega=draw(2, 4, 4))
    assert of(own, kind, (1, 1)).shape[-1] == width_of(spec, kind)


def test_what_was_not_tapped_is_said():
    bare = CellOutput(GroupOutput(("a",), (1, 1), {"recon": torch.zeros(1, 1, 3, 2, 2)}), 0)
    for kind in KINDS:
        with pytest.raises(PolicyError) as caught:
            of(bare, kind, (1, 1))
        assert caught.value.code == "NO_TAP"
