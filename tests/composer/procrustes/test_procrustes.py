"""The map between two cells' tokens: against scipy, against what was planted, and against its own laws."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import procrustes as scipy_procrustes

from batteries.errors import InputError
from composer.procrustes.similarity import FewSamplesWarning, fit

SEEDS, WIDTHS = st.integers(0, 1000), st.integers(1, 12)
TENSORS = ("rotation", "scale", "centre", "translation", "residual", "determinant", "paired")
EXACT = {"rtol": 0, "atol": 1e-10}
LAW = settings(deadline=None, max_examples=50)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d, seed, reflect=False):
    q = torch.linalg.qr(draw(d, d, seed=seed))[0]
    if (torch.linalg.det(q) < 0) != reflect:
        q[:, 0] = -q[:, 0]
    return q


def left_over(found, x, y):
    """Share of the target's variance that a map leaves, measured on the points."""
    y = torch.nn.functional.pad(y, (0, found.translation.shape[-1] - y.shape[-1]))
    return float((found(x) - y).square().sum() / (y - y.mean(dim=0)).square().sum())


# Against scipy.


@pytest.mark.slow
@LAW
@given(SEEDS, WIDTHS)
def test_scipy_finds_the_same_rotation_and_residual(seed, d):
    x, y = draw(5 * d + 2, d, seed=seed), draw(5 * d + 2, d, seed=seed + 1)
    found = fit(x, y)
    turned, trace = orthogonal_procrustes((x - x.mean(0)).numpy(), (y - y.mean(0)).numpy())
    assert np.allclose(found.rotation, turned, **EXACT)
    assert float(found.scale) == pytest.approx(trace / float((x - x.mean(0)).square().sum()), abs=1e-10)
    assert float(found.residual) == pytest.approx(scipy_procrustes(y.numpy(), x.numpy())[2], abs=1e-10)


@pytest.mark.slow
@LAW
@given(SEEDS, st.integers(2, 6))
def test_without_reflection_it_is_the_best_of_determinant_one(seed, d):
    """Umeyama's closed form, written out."""
    x, y = draw(30, d, seed=seed), draw(30, d, seed=seed + 1)
    u, s, v = np.linalg.svd(((x - x.mean(0)).T @ (y - y.mean(0))).numpy())
    signs = np.ones(d)
    signs[-1] = np.sign(np.linalg.det(u) * np.linalg.det(v))
    found = fit(x, y, reflection="forbidden")
    assert np.allclose(found.rotation, u * signs @ v, **EXACT)
    assert float(found.determinant) == 1
    assert float(found.scale) == pytest.approx((s * signs).sum() / float((x - x.mean(0)).square().sum()), abs=1e-10)
    assert float(found.residual) == pytest.approx(left_over(found, x, y), abs=1e-10)
    assert float(found.residual) >= float(fit(x, y).residual) - 1e-12


@pytest.mark.parametrize("d", [4, 5, 8, 16])
def test_many_pairs_at_once_are_scipys_one_by_one(d):
    """So many that the kernels do it, where the width is one of a cell's."""
    x, y = draw(60, 6 * d, d) + 3, draw(60, 6 * d, d, seed=1)
    found = fit(x, y)
    for n in range(60):
        turned, trace = orthogonal_procrustes((x[n] - x[n].mean(0)).numpy(), (y[n] - y[n].mean(0)).numpy())
        assert np.allclose(found.rotation[n], turned, **EXACT)
        assert float(found.scale[n]) == pytest.approx(trace / float((x[n] - x[n].mean(0)).square().sum()), abs=1e-10)
        assert float(found.residual[n]) == pytest.approx(scipy_procrustes(y[n].numpy(), x[n].numpy())[2], abs=1e-10)
    assert torch.equal(found.determinant, torch.linalg.det(found.rotation).sign())


# Against what was planted.


@pytest.mark.slow
@LAW
@given(SEEDS, WIDTHS, st.booleans(), st.floats(0.1, 10))
def test_a_planted_similarity_is_recovered(seed, d, reflect, scale):
    x, q, shift = draw(5 * d + 2, d, seed=seed), rotation(d, seed + 1, reflect), 10 * draw(d, seed=seed + 2)
    found = fit(x, scale * x @ q + shift)
    assert torch.allclose(found.rotation, q, rtol=0, atol=1e-6)
    assert float(found.scale) == pytest.approx(scale, rel=1e-6)
    assert float(found.determinant) == (-1 if reflect else 1)
    assert float(found.residual) == pytest.approx(0, abs=1e-12)
    assert torch.allclose(found(x), scale * x @ q + shift, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_under_noise_the_errors_are_as_large_as_they_should_be():
    """Standard errors of first order for an isotropic source and noise sigma: of the scale sigma / sqrt(n D), of an angle
    sigma / (scale sqrt(2 n)), of the shift at the mean sigma / sqrt(n)."""
    trials, n, d, sigma, scale = 2000, 200, 4, 0.1, 2.0
    x, q, shift = draw(trials, n, d), rotation(d, 1, True), draw(d, seed=2)
    found = fit(x, scale * x @ q + shift + sigma * draw(trials, n, d, seed=3))
    angle = (found.rotation @ q.T)[:, 0, 1]
    at_mean = found.translation - (scale * x.mean(dim=1) @ q + shift)
    for error, wanted in (
        (found.scale - scale, sigma / (n * d) ** 0.5),
        (angle, sigma / scale / (2 * n) ** 0.5),
        (at_mean[:, 0], sigma / n**0.5),
    ):
        assert abs(float(error.mean())) < 4 * wanted / trials**0.5
        assert float(error.std()) == pytest.approx(wanted, rel=0.08)  # its own standard error is 1.6%


@pytest.mark.slow
@LAW
@given(SEEDS, st.integers(2, 8))
def test_whitening_undoes_a_stretch_of_the_axes(seed, d):
    x, q = draw(20 * d, d, seed=seed), rotation(d, seed + 1)
    stretch = torch.linspace(1, 20, d, dtype=torch.float64)
    y = x @ q * stretch
    found = fit(x, y, whiten=True)
    assert float(found.residual) == pytest.approx(0, abs=1e-9)
    assert torch.allclose(found(x), y, atol=1e-8)
    assert torch.allclose(found.inverse()(y), x, atol=1e-8)
    if d > 2:
        assert float(fit(x, y).residual) > 1e-3
    moved = (y - y.mean(dim=0)).numpy()
    wanted = (np.linalg.cond(x.numpy() - x.numpy().mean(0)) ** 2, np.linalg.cond(moved) ** 2)
    assert found.whitening.condition.tolist() == pytest.approx(wanted)


# Laws.


@pytest.mark.slow
@LAW
@given(SEEDS, WIDTHS, st.booleans(), st.sampled_from(["allowed", "forbidden"]), st.floats(0, 2))
def test_a_fitted_map_is_never_worse_than_none(seed, d, scale, reflection, noise):
    x = draw(4 * d + 2, d, seed=seed)
    y = x + noise * draw(4 * d + 2, d, seed=seed + 1)
    found = fit(x, y, scale=scale, reflection=reflection)
    none = float((x - y).square().sum() / (y - y.mean(dim=0)).square().sum())
    assert float(found.residual) <= none + 1e-12
    assert float(found.residual) == pytest.approx(left_over(found, x, y), abs=1e-10)


@pytest.mark.slow
@LAW
@given(SEEDS, WIDTHS, st.booleans())
def test_the_inverse_of_the_inverse_is_the_map(seed, d, whiten):
    x, y = draw(6 * d + 2, d, seed=seed), draw(6 * d + 2, d, seed=seed + 1)
    found = fit(x, y, whiten=whiten)
    back, again = found.inverse(), found.inverse().inverse()
    assert torch.allclose(back(found(x)), x, atol=1e-6)
    assert torch.allclose(again.matrix, found.matrix, atol=1e-8)
    assert all(torch.allclose(getattr(again, name), getattr(found, name)) for name in TENSORS)


@pytest.mark.slow
@LAW
@given(SEEDS, WIDTHS, st.booleans(), st.booleans())
def test_two_maps_in_a_row_are_one(seed, d, first, second):
    x, y, z = (draw(6 * d + 2, d, seed=seed + i) for i in range(3))
    one, other = fit(x, y, whiten=first), fit(y, z, whiten=second)
    both = one.then(other)
    assert torch.allclose(both(x), other(one(x)), atol=1e-8)
    assert torch.allclose(both.rotation @ both.rotation.T, torch.eye(d, dtype=torch.float64), atol=1e-10)
    if not (first or second):
        assert float(both.determinant) == float(one.determinant * other.determinant)
    assert bool(both.residual.isnan())


@pytest.mark.slow
@LAW
@given(SEEDS, WIDTHS, st.booleans(), st.booleans())
def test_the_residual_does_not_see_how_the_ends_are_turned(seed, d, one, other):
    x, y = draw(4 * d + 2, d, seed=seed), draw(4 * d + 2, d, seed=seed + 1)
    p, q = rotation(d, seed + 2, one), rotation(d, seed + 3, other)
    assert float(fit(x @ p, y @ q).residual) == pytest.approx(float(fit(x, y).residual), abs=1e-10)


@pytest.mark.slow
@LAW
@given(SEEDS, WIDTHS, st.sampled_from([0.0, torch.nan]))
def test_masked_rows_are_as_if_they_were_not_there(seed, d, filling):
    n = 6 * d + 6
    x, y = draw(n, d, seed=seed), draw(n, d, seed=seed + 1)
    rows = torch.rand(n, generator=torch.Generator().manual_seed(seed)) < 0.7
    rows[: d + 2] = True
    wanted = fit(x[rows], y[rows])
    x[~rows] = filling
    found = fit(x, y, rows=rows)
    assert all(torch.allclose(getattr(found, name), getattr(wanted, name), **EXACT) for name in TENSORS)
    assert int(found.paired) == int(rows.sum())


@pytest.mark.slow
@LAW
@given(SEEDS, WIDTHS, st.booleans(), st.sampled_from(["allowed", "forbidden"]), st.booleans())
def test_a_batch_is_its_pairs_one_by_one(seed, d, scale, reflection, whiten):
    n = 6 * d + 6
    x, y = draw(2, 3, n, d, seed=seed), draw(3, n, d, seed=seed + 1)
    rows = torch.rand(2, 1, n, generator=torch.Generator().manual_seed(seed)) < 0.8
    rows[..., : d + 2] = True
    how = {"scale": scale, "reflection": reflection, "whiten": whiten}
    together = fit(x, y, rows=rows, **how)
    assert together.rotation.shape == (2, 3, d, d)
    assert together(x).shape == x.shape
    for i in range(2):
        for j in range(3):
            alone = fit(x[i, j], y[j], rows=rows[i, 0], **how)
            assert all(torch.allclose(getattr(together, name)[i, j], getattr(alone, name), atol=1e-8) for name in TENSORS)
            assert torch.allclose(together(x)[i, j], alone(x[i, j]), atol=1e-8)
            assert torch.allclose(together(x[:, :, 0])[i, j], alone(x[i, j, 0]), atol=1e-8)


# Unequal widths.


@pytest.mark.slow
@LAW
@given(SEEDS, st.integers(1, 6), st.integers(1, 6))
def test_padding_is_what_zeros_do(seed, one, other):
    x, y = draw(40, one, seed=seed), draw(40, other, seed=seed + 1)
    wider = max(one, other)
    zeros = [torch.nn.functional.pad(t, (0, wider - t.shape[-1])) for t in (x, y)]
    found, wanted = fit(x, y, unequal="pad"), fit(*zeros)
    assert found.padded == (wider - one, wider - other)
    assert torch.allclose(found(x)[:, :other], wanted(zeros[0])[:, :other], **EXACT)
    assert float(found.residual) == pytest.approx(left_over(found, x, y), abs=1e-10)
    assert torch.allclose(found.inverse()(found(x)), zeros[0], atol=1e-8)
    if one != other:
        assert float(found.determinant) == 1, "a padded axis may be turned over at no cost"


@pytest.mark.slow
@LAW
@given(SEEDS, st.integers(1, 6), st.integers(1, 6))
def test_projection_keeps_the_leading_axes(seed, one, other):
    x, y = draw(40, one, seed=seed), draw(40, other, seed=seed + 1)
    found = fit(x, y, unequal="project")
    assert found(x).shape == y.shape
    assert found.padded == (0, 0)
    assert found.projected == (one != other)
    assert float(found.residual) == pytest.approx(left_over(found, x, y), abs=1e-10)
    narrow = found.rotation @ found.rotation.T if one < other else found.rotation.T @ found.rotation
    assert torch.allclose(narrow, torch.eye(min(one, other), dtype=torch.float64), atol=1e-10)


def test_a_cell_in_a_wider_ones_leading_axes_is_found_by_projection():
    hidden = draw(60, 3) * torch.tensor([5.0, 4.0, 3.0], dtype=torch.float64)
    y = torch.cat([hidden, 0.01 * draw(60, 3, seed=1)], dim=1) @ rotation(6, 2)
    assert float(fit(hidden @ rotation(3, 3), y, unequal="project").residual) < 1e-4
    assert float(fit(y, hidden @ rotation(3, 3), unequal="project").residual) < 1e-4


# What it refuses, and what it warns of.


@pytest.mark.parametrize(
    ("code", "source", "target", "how"),
    [
        ("PAIRS", draw(3, 2), draw(4, 2), {}),
        ("PAIRS", draw(2), draw(2), {}),
        ("WIDTHS", draw(9, 2), draw(9, 3), {}),
        ("FEW_ROWS", draw(1, 2), draw(1, 2), {}),
        ("FEW_ROWS", draw(9, 2), draw(9, 2), {"rows": torch.arange(9) < 1}),
        ("FEW_ROWS", draw(0, 2), draw(0, 2), {}),
        ("NO_ROWS", draw(9, 2), draw(9, 2), {"rows": torch.zeros(9, dtype=torch.bool)}),
        ("NO_ROWS", draw(2, 9, 2), draw(9, 2), {"rows": torch.stack([torch.ones(9), torch.zeros(9)]).bool()}),
        ("NOT_FINITE", draw(9, 2).index_fill(0, torch.tensor(4), torch.nan), draw(9, 2), {}),
        ("NOT_FINITE", draw(9, 2), draw(9, 2).index_fill(0, torch.tensor(4), torch.inf), {}),
        ("CONSTANT", torch.ones(9, 2), draw(9, 2), {}),
        ("CONSTANT", draw(9, 2), torch.full((9, 2), 0.1), {}),
        ("CONSTANT", draw(9, 2), torch.zeros(9, 2), {}),
        ("SINGULAR", draw(9, 1) @ draw(1, 2), draw(9, 2), {"whiten": True}),
        ("WHITENED", draw(9, 2), draw(9, 3), {"whiten": True, "unequal": "project"}),
    ],
)
def test_what_cannot_be_aligned_is_refused_by_name(code, source, target, how):
    with pytest.raises(InputError) as caught:
        fit(source, target, **how)
    assert caught.value.code == code


def test_maps_refuse_tokens_and_maps_of_another_width():
    found = fit(draw(9, 2), draw(9, 3, seed=1), unequal="pad")
    assert found(draw(4, 2)).shape == found(draw(4, 3)).shape == (4, 3)
    for wrong in (lambda: found(draw(4, 5)), lambda: found.then(fit(draw(9, 2), draw(9, 2)))):
        with pytest.raises(InputError) as caught:
            wrong()
        assert caught.value.code == "WIDTH"


def test_a_map_onto_a_point_has_no_inverse():
    x = torch.tensor([[1.0], [0.0], [-1.0]])
    found = fit(x, -x, reflection="forbidden")
    assert float(found.scale) == 0
    assert float(found.residual) == 1
    with pytest.raises(InputError) as caught:
        found.inverse()
    assert caught.value.code == "NO_INVERSE"


def test_fewer_rows_than_dimensions_are_warned_of_with_figures():
    with pytest.warns(FewSamplesWarning) as caught:
        found = fit(draw(8, 16), draw(8, 16, seed=1))
    assert (caught[0].message.rows, caught[0].message.width) == (8, 16)
    assert float(found.residual) < 0.4  # of unrelated tokens: what the warning is about
    assert float(found.determinant) == 1
