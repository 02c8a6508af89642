"""The batched eigensolver against LAPACK, on matrices that are hard for it, and that its answer depends on the matrix alone."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from batteries.kernels import eigensolver
from tests.support.laws import given, settings, st

TOLERANCE = 1e-12  # of the norm of the matrix
MANY = 300  # above every threshold, so that the kernels are used


def rows(n, V, D, seed=0):
    M = torch.randn(n, V, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(M, dim=-1)


def gram(n, D, seed=0, V=24):
    M = rows(n, V, D, seed)
    return M.mT @ M


def frames(n, D, seed=0):
    return torch.linalg.qr(torch.randn(n, D, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]


def with_spectrum(values, n, seed=0):
    Q = frames(n, values.shape[-1], seed)
    G = (Q * values[..., None, :]) @ Q.mT
    return (G + G.mT) / 2


def check(G):
    """Residual, orthogonality, order, and the eigenvalues of LAPACK."""
    values, W = eigensolver.eigh(G)
    alone = eigensolver.eigvalsh(G)
    assert values.shape == alone.shape == G.shape[:-1]
    assert W.shape == G.shape
    assert values.dtype == W.dtype == G.dtype
    scale = G.abs().amax(dim=(-2, -1), keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    unit, scaled = G / scale, values / scale[..., 0]
    norm = torch.linalg.matrix_norm(unit).clamp_min(torch.finfo(G.dtype).tiny)
    residual = torch.linalg.matrix_norm(unit @ W - W * scaled[..., None, :]) / norm
    orthogonality = (W.mT @ W - torch.eye(G.shape[-1], dtype=G.dtype)).abs()
    assert (residual <= TOLERANCE).all(), residual.max()
    assert (orthogonality <= TOLERANCE).all(), orthogonality.max()
    assert (values.diff(dim=-1) >= 0).all()
    oracle = torch.linalg.eigvalsh(unit)
    for found in (scaled, alone / scale[..., 0]):
        assert ((found - oracle).abs() <= TOLERANCE * norm[..., None]).all()


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(1, 32), st.sampled_from([0, 1, 7, 16, 17, 61, 256, 259]), st.integers(0, 1000))
def test_random_gram_matrices(D, n, seed):
    check(gram(n, D, seed))


ELEMENTS = [0.0, 1.0, -1.0, 0.5, 3.0, 1e-8, 1e-9, -1e-17, 1e-35, 1e-70, 1e-71, 1e-160, 1e-300]


@settings(deadline=None)
@given(st.integers(2, 32), st.integers(1, 31), st.integers(0, 1000))
def test_values_alone_of_matrices_that_fall_apart(D, band, seed):
    """Bands of ones, zeros and next to nothings. torch's own values alone are no oracle here: off by 1e-3 for some of these."""
    choice = torch.randint(len(ELEMENTS), (64, D, D), generator=torch.Generator().manual_seed(seed))
    lower = torch.tensor(ELEMENTS, dtype=torch.float64)[choice].tril().triu(-band)
    found, oracle = eigensolver.eigvalsh(lower), torch.linalg.eigh(lower)[0]
    assert (found.diff(dim=-1) >= 0).all()
    norm = torch.linalg.matrix_norm(lower + lower.tril(-1).mT, ord=1)
    assert ((found - oracle).abs() <= 1e-14 * norm[:, None]).all()


def hard(D):
    """Matrices that go wrong in careless solvers, by name, each (MANY, D, D)."""
    one = rows(MANY, 1, D)
    repeated = torch.ones(D, dtype=torch.float64)
    repeated[: D // 2] = 3.0
    columns = torch.linalg.qr(torch.randn(MANY, 40, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    ones = torch.ones(MANY, D, D, dtype=torch.float64)
    mixed = gram(MANY, D)
    mixed[::2] = 0.0
    mixed[1::4] *= 1e200
    indefinite = gram(MANY, D) - gram(MANY, D, seed=1)
    beside = torch.diag(torch.ones(D - 1, dtype=torch.float64), 1)
    beside = beside + beside.mT
    wilkinson = torch.diag((torch.arange(D, dtype=torch.float64) - (D - 1) / 2).abs()) + beside
    twos = torch.block_diag(
        *[torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)] * (D // 2), torch.zeros(D % 2, D % 2)
    )
    fading = torch.logspace(0, -40, D, dtype=torch.float64)
    return {
        "rank one": one.mT @ one,
        "all ones": ones,
        "zero": ones * 0.0,
        "identity": torch.eye(D, dtype=torch.float64).expand(MANY, D, D),
        "diagonal, descending": torch.diag(torch.arange(D, 0, -1, dtype=torch.float64)).repeat(MANY, 1, 1),
        "repeated": with_spectrum(repeated, MANY),
        "orthonormal columns": columns.mT @ columns,
        "ill-conditioned": with_spectrum(torch.logspace(-16, 0, D, dtype=torch.float64), MANY),
        "nearly equal": with_spectrum(1 + 1e-15 * torch.arange(D, dtype=torch.float64), MANY),
        "1e-24": gram(MANY, D) * 1e-24,
        "1e-300": gram(MANY, D) * 1e-300,
        "1e300": gram(MANY, D) * 1e300,
        "off-diagonal of 1e-170": torch.eye(D, dtype=torch.float64) + ones * 1e-170,
        "one matrix zero, the next huge": mixed,
        "indefinite": indefinite,
        "second differences": (2 * torch.eye(D, dtype=torch.float64) - beside).repeat(MANY, 1, 1),
        "Wilkinson's": wilkinson.repeat(MANY, 1, 1),
        "blocks of two": twos.repeat(MANY, 1, 1),
        "graded": indefinite * (fading[:, None] * fading),
    }


@pytest.mark.parametrize("kind", hard(2))
@pytest.mark.parametrize("D", [2, 3, 4, 5, 8, 12, 16, 24, 32])
def test_hard_matrices(kind, D):
    check(hard(D)[kind])


def test_subnormal_matrices_are_solved_to_their_own_precision():
    G = gram(MANY, 4) * 1e-315
    values, W = eigensolver.eigh(G)
    assert torch.allclose(values * 1e300, torch.linalg.eigvalsh(G * 1e300), rtol=1e-6, atol=1e-20)
    assert torch.allclose(W.mT @ W, torch.eye(4, dtype=torch.float64), atol=TOLERANCE)
    G = gram(MANY, 16) * 1e-315
    assert torch.allclose(eigensolver.eigvalsh(G) * 1e300, torch.linalg.eigvalsh(G * 1e300), rtol=1e-6, atol=1e-20)


@pytest.mark.slow
@pytest.mark.parametrize(("D", "n"), [(4, 1_000_000), (8, 100_000), (16, 50_000)])
def test_a_million(D, n):
    """Random, rank one, repeated and ill-conditioned ones together: no NaN, all within tolerance, twice the same."""
    G = gram(n, D, V=D)
    few = n // 10
    one = rows(few, 1, D, seed=2)
    G[:few] = one.mT @ one
    repeated = torch.linspace(0, 1, D, dtype=torch.float64).round()
    G[few : 2 * few] = with_spectrum(repeated, few)
    G[2 * few : 3 * few] = with_spectrum(torch.logspace(-16, 0, D, dtype=torch.float64), few)
    first, second = eigensolver.eigh(G), eigensolver.eigh(G)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    values, W = first
    norm = torch.linalg.matrix_norm(G)
    assert ((torch.linalg.matrix_norm(G @ W - W * values[:, None, :]) / norm) < TOLERANCE).all()
    assert ((W.mT @ W - torch.eye(D, dtype=torch.float64)).abs() < TOLERANCE).all()
    assert (values.diff(dim=-1) >= 0).all()


UNALIGNED = pytest.mark.skipif(
    find_spec("numba") is None, reason="LAPACK may round by the place in memory, where a matrix is not whole cache lines"
)


@pytest.mark.parametrize("D", [4, pytest.param(5, marks=UNALIGNED), pytest.param(11, marks=UNALIGNED), 16])
def test_the_answer_depends_on_the_matrix_alone(D):
    """Not on its place in the batch, its neighbours, the size of the batch or the number of threads: to the bit."""
    G = gram(4099, D)
    G[::3] = hard(D)["rank one"][0]
    G[1::97] = hard(D)["Wilkinson's"][0]
    values, W = eigensolver.eigh(G)
    alone = eigensolver.eigvalsh(G)
    order = torch.randperm(len(G), generator=torch.Generator().manual_seed(0))
    for chosen in (order, order[:2001], order[:17]):
        other, frame = eigensolver.eigh(G[chosen])
        assert torch.equal(other, values[chosen])
        assert torch.equal(frame, W[chosen])
        assert torch.equal(eigensolver.eigvalsh(G[chosen]), alone[chosen])
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            other, frame = eigensolver.eigh(G)
            assert torch.equal(other, values)
            assert torch.equal(frame, W)
            assert torch.equal(eigensolver.eigvalsh(G), alone)
    finally:
        torch.set_num_threads(threads)


def test_values_alone_are_those_with_vectors():
    pytest.importorskip("numba")  # to the bit, which torch does not promise
    G = gram(MANY, 8)
    assert torch.equal(eigensolver.eigvalsh(G), eigensolver.eigh(G)[0])


def test_strides_leading_axes_and_the_unread_triangle():
    G = gram(600, 6)
    values, W = eigensolver.eigh(G)
    spread = torch.empty(6, 600, 6, dtype=torch.float64).permute(1, 0, 2).copy_(G)
    assert not spread.is_contiguous()
    assert torch.equal(eigensolver.eigh(spread)[0], values)
    folded = eigensolver.eigh(G.reshape(20, 30, 6, 6))
    assert torch.equal(folded[0], values.reshape(20, 30, 6))
    assert torch.equal(folded[1], W.reshape(20, 30, 6, 6))
    assert torch.equal(eigensolver.eigh(G.tril())[1], W)
    assert torch.equal(eigensolver.eigh(gram(1, 6)[0].expand(64, 6, 6))[0], eigensolver.eigh(gram(1, 6).repeat(64, 1, 1))[0])


def test_input_is_left_alone_and_nothing_is_recorded():
    G = gram(MANY, 4).requires_grad_()
    before = G.detach().clone()
    values, W = eigensolver.eigh(G)
    assert not values.requires_grad
    assert not W.requires_grad
    assert torch.equal(G, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("V", "D"), [(1, 4), (7, 5), (32, 4), (64, 16), (64, 32)])
@pytest.mark.parametrize("n", [1, MANY])
def test_from_the_matrix_itself(dtype, V, D, n):
    M = rows(n, V, D).to(dtype)
    wide = M.double()
    G = wide.mT @ wide + 1e-12 * torch.eye(D, dtype=torch.float64)
    values, W = eigensolver.gram_eigh(M, 1e-12)
    assert values.dtype == W.dtype == torch.float64
    norm = torch.linalg.matrix_norm(G)
    assert (torch.linalg.matrix_norm(G @ W - W * values[:, None, :]) <= TOLERANCE * norm).all()
    assert ((values - torch.linalg.eigvalsh(G)).abs() <= TOLERANCE * norm[:, None]).all()
    assert torch.allclose(eigensolver.gram_eigvalsh(M, 1e-12), values, rtol=0, atol=TOLERANCE * float(norm.max()))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", [(0, 0), (3, 3), (3, 1), (slice(None), slice(None))])
@pytest.mark.parametrize("n", [3, MANY])
def test_nan_in_nan_out_and_the_others_untouched(monkeypatch, fast, bad, where, n):
    if not fast:
        monkeypatch.setattr(eigensolver, "_kernel", lambda narrow, wide, source: None)
    G = gram(n, 4)
    clean = eigensolver.eigh(G)[0]
    G[1][where] = bad
    values, W = eigensolver.eigh(G)
    assert values[1].isnan().any()
    if where != (0, 0) and where != (3, 3):  # torch's own values alone: zero for NaN on the diagonal only
        assert eigensolver.eigvalsh(G)[1].isnan().any()
    others = torch.arange(n) != 1
    assert torch.allclose(values[others], clean[others], rtol=1e-12)
    assert W[others].isfinite().all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("D", [4, 9, 16, 32])
def test_values_alone_beside_one_that_is_not_finite_are_the_same_to_the_bit(D, bad):
    G, M = gram(MANY, D), rows(MANY, 24, D)
    clean, from_rows = eigensolver.eigvalsh(G), eigensolver.gram_eigvalsh(M)
    G[1, 3, 1] = M[1, 3, 1] = bad
    others = torch.arange(MANY) != 1
    for found, wanted in ((eigensolver.eigvalsh(G), clean), (eigensolver.gram_eigvalsh(M), from_rows)):
        assert found[1].isnan().any()
        assert torch.equal(found[others], wanted[others])


def route(kernels, source):
    return eigensolver._kernel(kernels, kernels, source)


def test_the_fast_route_is_taken_where_it_is_meant_to_be():
    pytest.importorskip("numba")
    for D in (2, 3, 4, 5, 8, 12, 16, 32):
        assert route(eigensolver._symmetric, gram(MANY, D)) is not None
        assert route(eigensolver._gram, gram(MANY, D).float()) is not None
        assert route(eigensolver._symmetric_values, gram(16, D)) is not None
        assert route(eigensolver._gram_values, gram(16, D).float()) is not None
    for other in (gram(1, 4), gram(15, 16), gram(0, 4), gram(MANY, 33), gram(MANY, 1), gram(MANY, 4).float()):
        assert route(eigensolver._symmetric, other) is None
        assert route(eigensolver._symmetric_values, other) is None


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_can_solve():
    """Our threads do not outlive a call; torch's do, so the child keeps to a kernel and numpy, as a data loader would."""
    pytest.importorskip("numba")
    code = (
        "import os, signal, numpy, torch\nfrom batteries.kernels import eigensolver\n"
        "G = torch.from_numpy(numpy.tile(numpy.eye(4), (40000, 1, 1)))\neigensolver.eigh(G)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    signal.alarm(30)\n"
        "    os._exit(0 if (eigensolver.eigh(G)[0].numpy() == 1).all() else 3)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


@pytest.mark.cuda
@pytest.mark.parametrize("D", [4, 8, 16])
def test_on_cuda_it_is_torchs(D):
    G = gram(64, D).cuda()
    for found, wanted in zip(eigensolver.eigh(G), torch.linalg.eigh(G), strict=True):
        assert torch.equal(found, wanted)
    M = rows(64, 24, D).cuda()
    assert torch.allclose(eigensolver.gram_eigh(M)[0].cpu(), eigensolver.eigh(G)[0].cpu(), atol=1e-12)
