"""The kernels for many pairs against torch's way, and that an answer depends on its pair alone."""

import pytest
import torch

from batteries.errors import InputError
from composer.procrustes import moments, polar
from composer.procrustes.centering import Products, centred, products
from composer.procrustes.similarity import fit
from tests.support.laws import HealthCheck, given, settings, st

LAW = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
HEIGHTS = st.sampled_from([2, 3, 17, 63, 64, 65, 128, 130])  # about the rows that are centred at a time
WIDTHS = st.sampled_from([4, 8])
SEEDS = st.integers(0, 1000)
FIELDS = ("rotation", "scale", "centre", "translation", "residual", "determinant", "paired")


@pytest.fixture(autouse=True)
def _however_few(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(moments, "FEW", 1)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(found, wanted, tolerance=1e-12):
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= tolerance * (1 + wanted.abs().max())


def by_torch(source, target, rows=None):
    (x, centre), (y, translation) = centred(source, rows), centred(target, rows)
    return centre, translation, Products.of(x, y)


def by_svd(cross):
    left, singular, right = torch.linalg.svd(cross)
    return left @ right, singular.sum(dim=-1), torch.linalg.det(left @ right).sign()


def conditioned(count, D, condition, seed=0):
    """Matrices with singular values from 1 down to one over the condition."""
    left, right = (torch.linalg.qr(draw(count, D, D, seed=seed + i)).Q for i in range(2))
    return left * torch.logspace(0, -torch.tensor(condition).log10().item(), D, dtype=torch.float64) @ right


# Sums over rows.


@LAW
@given(st.integers(1, 20), HEIGHTS, WIDTHS, SEEDS, st.booleans(), st.floats(0, 100))
def test_moments_are_those_of_centred_tokens(count, height, D, seed, masked, shift):
    x, y = draw(count, height, D, seed=seed) + shift, draw(count, height, D, seed=seed + 1) - shift
    rows = torch.rand(count, height, generator=torch.Generator().manual_seed(seed)) < 0.6 if masked else None
    if masked:
        rows[:, :2] = True
    found = moments.moments(x, y, rows)
    centre, translation, wanted = by_torch(x, y, rows)
    near(found.means, torch.stack([centre, translation]))
    near(found.cross, wanted.cross, 1e-11)
    near(found.squares, torch.stack([wanted.spread, wanted.total]), 1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("D", [12, 16, 32])
def test_other_widths_and_float32(D):
    x, y = draw(5, 70, D).float(), draw(5, 70, D, seed=1).float()
    near(moments.moments(x, y, None).cross, by_torch(x, y)[2].cross)
    cross = draw(5, D, D)
    near(moments.polar(cross).rotation, by_svd(cross)[0], 1e-10)


@pytest.mark.parametrize("filling", [torch.nan, torch.inf, 1e300])
def test_what_stands_in_missing_rows_is_not_looked_at(filling):
    x, y, rows = draw(6, 20, 4), draw(6, 20, 4, seed=1), torch.arange(20) % 3 > 0
    wanted = moments.moments(x[:, rows], y[:, rows], None)
    x[:, ~rows] = filling
    y[:, ~rows] = filling
    for part, other in zip(moments.moments(x, y, rows), wanted, strict=True):
        assert torch.equal(part, other)


@pytest.mark.parametrize(
    ("source", "target", "rows"),
    [
        ((3, 1, 9, 4), (2, 9, 4), None),
        ((6, 9, 4), (9, 4), (9,)),
        ((9, 4), (1, 9, 4), (3, 2, 9)),
        ((3, 2, 9, 4), (9, 4), (3, 1, 9)),
    ],
)
def test_leading_axes_are_broadcast_as_torch_does(source, target, rows):
    x, y = draw(*source), draw(*target, seed=1)
    kept = None if rows is None else torch.rand(rows, generator=torch.Generator().manual_seed(0)) < 0.7
    batch = torch.broadcast_shapes(source[:-2], target[:-2], () if rows is None else rows[:-1])
    found, wanted = moments.moments(x, y, kept), by_torch(x, y, kept)
    near(found.cross, wanted[2].cross)
    for mean, other in zip(found.means, wanted[:2], strict=True):
        near(mean, other.expand(*batch, 4))


@pytest.mark.parametrize(("code", "bad"), [("NOT_FINITE", torch.nan), ("NOT_FINITE", torch.inf), ("CONSTANT", None)])
@pytest.mark.parametrize("end", [0, 1])
def test_one_bad_pair_among_many_is_refused_as_it_is_alone(code, bad, end):
    ends = [draw(40, 20, 4), draw(40, 20, 4, seed=1)]
    if bad is None:
        ends[end][17] = 0.1
    else:
        ends[end][17, 3, 2] = bad
    for pair in (ends, [own[17] for own in ends]):
        with pytest.raises(InputError) as caught:
            fit(*pair)
        assert caught.value.code == code


# Polar factors.


@LAW
@given(st.integers(1, 20), WIDTHS, SEEDS)
def test_polar_factors_are_those_of_the_svd(count, D, seed):
    cross = conditioned(count, D, 100, seed) * 10.0 ** (seed % 7 - 3)
    found, (rotation, trace, determinant) = moments.polar(cross), by_svd(cross)
    near(found.rotation, rotation, 1e-12)
    assert torch.allclose(found.trace, trace, rtol=1e-12)
    assert torch.equal(found.determinant, determinant)


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("size", [1e-100, 1.0, 1e100])
def test_ill_conditioned_matrices_lose_no_more_than_they_must(condition, size):
    cross = conditioned(50, 8, condition)
    rotation = moments.polar(cross * size).rotation
    near(rotation.mT @ rotation, torch.eye(8, dtype=torch.float64).expand(50, 8, 8), 1e-14)
    near(rotation, by_svd(cross)[0], 1e-15 * max(100, 10 * condition))


def test_nearly_singular_matrices_have_no_sign_and_others_are_not_touched():
    cross = conditioned(7, 4, 10)
    wanted = moments.polar(cross)
    cross[1], cross[3] = 0, cross[3] * 1e-200
    cross[4], cross[5] = conditioned(1, 4, 1e9)[0], cross[5] * torch.tensor([1, 1, 0, 1])
    found = moments.polar(cross)
    assert found.determinant.tolist() == [wanted.determinant[n] if n in (0, 2, 6) else 0 for n in range(7)]
    assert torch.equal(found.rotation[[0, 2, 6]], wanted.rotation[[0, 2, 6]])
    rotation, trace, determinant = polar.turn(cross, "allowed")  # by the SVD
    near(rotation.mT @ rotation, torch.eye(4, dtype=torch.float64).expand(7, 4, 4))
    assert torch.allclose(trace, torch.linalg.svdvals(cross).sum(dim=-1), rtol=1e-10, atol=0)
    assert torch.equal(determinant, torch.linalg.det(rotation).sign())
    assert bool((determinant[[1, 5]] == 1).all())


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_matrix_that_is_not_finite_gives_nan_and_no_error(bad):
    cross = draw(20, 4, 4)
    wanted = polar.turn(cross, "forbidden")
    cross[7, 1, 2] = bad
    found, others = polar.turn(cross, "forbidden"), torch.arange(20) != 7
    for part, whole in zip(found, wanted, strict=True):
        assert bool(part[7].isnan().all())
        assert torch.equal(part[others], whole[others])


def test_the_steps_bring_all_of_their_interval_to_one():
    x = torch.linspace(0.01, 1, 10_001, dtype=torch.float64)
    small = torch.tensor(1e-6, dtype=torch.float64)
    for a, b, c in pytest.importorskip("composer.kernels.cross_products").STEPS:
        x, small = (each * (a + b * each**2 + c * each**4) for each in (x, small))
    assert float((x - 1).abs().max()) < 1e-15
    assert 500 < float(small) / 1e-6 < 600


@pytest.mark.slow
@LAW
@given(st.integers(16, 40), WIDTHS, SEEDS, st.sampled_from(["allowed", "forbidden"]), st.booleans())
def test_maps_are_torchs_whatever_the_route(count, D, seed, reflection, singular):
    x, y = draw(count, 3 * D, D, seed=seed), draw(count, 3 * D, D, seed=seed + 1)
    if singular:
        x[::3, :, 1] = 0  # a padded axis
    fast = fit(x, y, reflection=reflection)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments, "_kernel", lambda *given: None)
        slow = fit(x, y, reflection=reflection)
    assert all(torch.allclose(getattr(fast, name), getattr(slow, name), rtol=0, atol=1e-9) for name in FIELDS)
    if reflection == "forbidden" or singular:
        assert bool((fast.determinant[::3] == 1).all())
    else:
        assert set(fast.determinant.tolist()) == {-1.0, 1.0}


def test_square_polar_factors_of_the_consensus_are_torchs_too():
    cross = conditioned(30, 8, 50)
    cross[4] = 0
    assert torch.allclose(polar.polar(cross)[:4], by_svd(cross)[0][:4], rtol=0, atol=1e-12)
    tall = draw(30, 8, 4)
    left, _, right = torch.linalg.svd(tall, full_matrices=False)
    assert torch.allclose(polar.polar(tall), left @ right, rtol=0, atol=1e-10)


# Which route.


def test_the_kernels_are_for_many_pairs_of_cells_on_the_cpu_without_gradients(monkeypatch):
    x = draw(20, 9, 8)
    assert moments.moments(x, x, None) is not None
    assert moments.moments(x[..., :5], x[..., :5], None) is None
    assert moments.moments(x, x[..., :4], None) is None
    assert moments.moments(x, x, torch.ones(1, dtype=torch.bool)) is None
    assert moments.moments(x[:0], x[:0], None) is None
    assert moments.polar(draw(20, 8, 4)) is None
    assert moments.polar(draw(20, 5, 5)) is None
    assert moments.polar(draw(20, 4, 4)) is not None
    given = x.clone().requires_grad_()
    assert moments.moments(given, x, None) is None
    with torch.no_grad():
        assert moments.moments(given, x, None) is not None
    monkeypatch.undo()
    assert moments.moments(x[:15], x[:15], None) is None
    assert moments.moments(x[:16], x[:16], None) is not None


def test_a_gradient_reaches_the_tokens_through_products():
    x = draw(20, 9, 4).requires_grad_()
    products(x, draw(20, 9, 4, seed=1), None)[2].cross.sum().backward()
    assert x.grad is not None
