"""Muon: the batched orthogonalisation against the plain one in float64 and against torch's step; its laws."""

import pytest
import torch

from batteries.training.muon import BatchedMuon, orthogonal

COEFFICIENTS, STEPS, EPS = (3.4445, -4.7750, 2.0315), 5, 1e-7  # torch's defaults
SHAPES = [(6, 6), (6, 6), (6, 40), (40, 6), (3, 9), (1, 7), (64, 48)]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def polar(matrices):
    return orthogonal(matrices, COEFFICIENTS, STEPS, EPS)


def direct(matrix):
    """The iteration as published, in float64."""
    a, b, c = COEFFICIENTS
    X = matrix.double().mT if matrix.shape[0] > matrix.shape[1] else matrix.double()
    X = X / X.norm().clamp_min(EPS)
    for _ in range(STEPS):
        A = X @ X.mT
        X = a * X + (b * A + c * A @ A) @ X
    return X.mT if matrix.shape[0] > matrix.shape[1] else X


def error(found, wanted):
    return ((found.double() - wanted).norm() / wanted.norm()).item()


def rotation(n, seed):
    return torch.linalg.qr(normal(n, n, seed=seed).double())[0]


def with_spectrum(m, n, spectrum):
    r = len(spectrum)
    return (rotation(m, 1)[:, :r] * torch.tensor(spectrum, dtype=torch.float64) @ rotation(n, 2)[:, :r].mT).float()


def test_matrices_of_all_sizes_match_the_direct_iteration():
    matrices = [normal(*shape, seed=seed) for seed, shape in enumerate(SHAPES)]
    for matrix, found in zip(matrices, polar(matrices), strict=True):
        assert found.shape == matrix.shape
        assert error(found, direct(matrix)) < 1e-4


@pytest.mark.parametrize("shape", [(64, 64), (64, 768), (1024, 64)])
@pytest.mark.parametrize(("condition", "most"), [(1e1, 1e-5), (1e2, 1e-4), (1e4, 5e-4), (1e6, 5e-4)])
def test_the_gram_matrix_costs_no_more_than_rounding(shape, condition, most):
    matrix = with_spectrum(*shape, torch.logspace(0, -torch.tensor(condition).log10().item(), 64).tolist())
    assert error(polar([matrix])[0], direct(matrix)) < most


def test_a_matrix_of_lower_rank_gains_none():
    matrix = with_spectrum(32, 80, [1.0, 0.5, 0.1])
    found = polar([matrix])[0]
    spectrum = torch.linalg.svdvals(found)
    assert spectrum[:3].min() > 0.6
    assert spectrum[3:].max() < 1e-3
    assert error(found, direct(matrix)) < 1e-3


def test_a_zero_matrix_stays_zero_and_an_empty_list_empty():
    zero, other = polar([torch.zeros(6, 9), normal(6, 9)])
    assert not zero.any()
    assert torch.allclose(other, polar([normal(6, 9)])[0], atol=1e-6)
    assert polar([]) == []


def test_the_scale_of_a_matrix_changes_nothing():
    matrices = [normal(*shape, seed=seed) for seed, shape in enumerate(SHAPES)]
    for factor in (2.0**-12, 2.0**20):  # exact in float32
        scaled = polar([matrix * factor for matrix in matrices])
        assert all(torch.equal(one, other) for one, other in zip(scaled, polar(matrices), strict=True))


@pytest.mark.parametrize("shape", [(8, 8), (8, 24), (24, 8)])
def test_rotations_pass_through(shape):
    G, U, V = normal(*shape), rotation(shape[0], 3), rotation(shape[1], 4)
    turned = polar([(U @ G.double() @ V).float()])[0]
    assert error(turned, U @ polar([G])[0].double() @ V) < 1e-4


def parameters():
    return [torch.nn.Parameter(normal(*shape, seed=seed)) for seed, shape in enumerate(SHAPES)]


def gradients(step):
    return [normal(*shape, seed=100 * step + seed) for seed, shape in enumerate(SHAPES)]


def walk(optimiser, matrices, steps):
    for step in steps:
        for matrix, gradient in zip(matrices, gradients(step), strict=True):
            matrix.grad = gradient
        optimiser.step()


def torchs(matrices):
    return torch.optim.Muon(matrices, lr=0.1, weight_decay=0.0)


def test_a_step_is_torchs_within_bfloat16():
    ours, theirs, before = parameters(), parameters(), parameters()
    for matrices, optimiser in ((ours, BatchedMuon(ours, lr=0.1)), (theirs, torchs(theirs))):
        walk(optimiser, matrices, range(3))
    for one, other, start in zip(ours, theirs, before, strict=True):
        assert error((one - start).detach(), (other - start).detach().double()) < 0.05


def test_the_state_is_torchs():
    ours, theirs = parameters(), parameters()
    reference, muon = torchs(theirs), BatchedMuon(ours, lr=0.1)
    walk(reference, theirs, range(2))
    walk(muon, ours, range(2))
    saved, found = reference.state_dict(), muon.state_dict()
    assert found["param_groups"] == saved["param_groups"]
    for index, entry in saved["state"].items():
        assert entry.keys() == found["state"][index].keys()
        assert torch.equal(entry["momentum_buffer"], found["state"][index]["momentum_buffer"])


def test_a_matrix_without_a_gradient_stays_and_a_closure_is_called():
    moved, still = (torch.nn.Parameter(normal(3, 4)) for _ in range(2))
    muon = BatchedMuon([moved, still], lr=0.1)

    def closure():
        moved.grad = normal(3, 4, seed=1)
        return 7.0

    assert muon.step(closure) == 7.0
    assert not torch.equal(moved, normal(3, 4))
    assert torch.equal(still, normal(3, 4))


def test_a_vector_is_refused():
    with pytest.raises(ValueError, match="only supports 2D"):
        BatchedMuon([torch.nn.Parameter(normal(3))], lr=0.1)
