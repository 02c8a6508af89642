"""Derivatives of every order, by every road of torch, are those of float64 differences and of plain loops."""

from functools import cache

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.autograd import functional as autograd
from torch.func import grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from batteries import CellSpec, InputError, PatchSVAE
from batteries.geometry import estimates, row_figures, simplex_cv
from batteries.model import derivatives, spectral
from batteries.model.attention import attend
from batteries.model.boundary_smoothing import smooth
from composer import align, compose, swap
from composer.alignment.tokens import frames
from composer.procrustes import generalised, map_into, score
from composer.procrustes.similarity import fit
from tests.compatibility import refused, works
from tests.support.cells import from_model

SPECS = (CellSpec(V=6, D=4, patch_size=4, hidden=8, heads=2), CellSpec(V=8, D=8, patch_size=8, hidden=6, heads=2))
TAPS = ("M", "S", "omega", "recon")
STEP = 1e-5
pytestmark = pytest.mark.filterwarnings(  # of torch's own, within its transforms
    "ignore::DeprecationWarning", "ignore:Attempted to insert a get_attr:UserWarning"
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, U, W = (draw(2, 3, 16, 16, seed=seed) for seed in range(3))


@cache
def losses():
    cells = [from_model(SPECS[0], 0, "one"), from_model(SPECS[1], 1, "other", band="mid")]
    container, alone = compose(cells, dtype=torch.float64), PatchSVAE.from_cell(cells[0]).double()

    def of_container(x):
        outputs = container(x, TAPS).values()
        return sum(getattr(out, tap).pow(3).sum() for out in outputs for tap in TAPS) + sum(
            o.patch_error.sum() for o in outputs
        )

    def of_model(x):
        out = alone(x)
        return out.M.pow(3).sum() + out.omega.pow(3).sum() + out.recon.pow(3).sum() + alone.tokens(x).omega.sum()

    return {"container": of_container, "PatchSVAE": of_model}


@pytest.fixture(params=["container", "PatchSVAE"])
def loss(request):
    return losses()[request.param]


def gradient(loss, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(loss(x), x)[0]


def second(loss, along):
    """The derivative of the gradient along a direction, by differences."""
    return (gradient(loss, X + STEP * along) - gradient(loss, X - STEP * along)) / (2 * STEP)


def close(found, wanted):
    found, wanted = found.detach(), wanted.detach()
    return torch.allclose(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


def dual(function):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(function(forward_ad.make_dual(X, U))).tangent


def twice(loss, x, along):
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(x), x, create_graph=True)
    return torch.autograd.grad(first, x, along, is_grads_batched=along.ndim > x.ndim)[0]


@works("torch", "torch.func.grad, vjp, jacrev through a container or a PatchSVAE", note="torch's operators")
@works("torch", "torch.autograd.functional.jacobian, vectorized too")
@works("torch", "is_grads_batched through a container")
def test_first_derivatives(loss):
    wanted = gradient(loss, X)
    assert close((wanted * U).sum(), (loss(X + STEP * U) - loss(X - STEP * U)) / (2 * STEP))
    one = torch.ones((), dtype=torch.float64)
    x = X.clone().requires_grad_()
    many = torch.autograd.grad(loss(x) * torch.ones(2, dtype=torch.float64), x, torch.eye(2).double(), is_grads_batched=True)
    for found in (
        grad(loss)(X),
        vjp(loss, X)[1](one)[0],
        jacrev(loss)(X),
        autograd.jacobian(loss, X, vectorize=True),
        *many[0],
    ):
        assert close(found, wanted)


@works("torch", "vmap or jvp around torch.autograd.grad of a graph made before it")
@pytest.mark.slow
def test_a_transform_of_a_backward_pass(loss):
    wanted = gradient(loss, X)
    x = X.clone().requires_grad_()
    value = loss(x)
    (slope,) = torch.autograd.grad(value, x, create_graph=True)

    def back(of, given):
        return torch.autograd.grad(of, x, given, retain_graph=True)[0]

    many = vmap(lambda given: back(value, given))(torch.tensor([1.0, -2.0], dtype=torch.float64))
    assert close(many[0], wanted)
    assert close(many[1], -2 * wanted)
    assert close(vmap(lambda given: back(slope, given))(torch.stack([W, U]))[1], second(loss, U))
    with forward_ad.dual_level():
        one = torch.ones((), dtype=torch.float64)
        assert close(forward_ad.unpack_dual(back(value, forward_ad.make_dual(one, 3 * one))).tangent, 3 * wanted)


@works("torch", "forward-mode derivatives: forward_ad, torch.func.jvp, linearize")
def test_forward_mode(loss):
    wanted = (gradient(loss, X) * U).sum()
    line = torch.zeros((), dtype=torch.float64)
    along = autograd.jacobian(lambda t: loss(X + t * U), line, strategy="forward-mode", vectorize=True)
    for found in (dual(loss), jvp(loss, (X,), (U,))[1], autograd.jvp(loss, X, U)[1], along):
        assert close(found, wanted)


@pytest.mark.slow
def test_linearize():
    loss = losses()["PatchSVAE"]
    assert close(linearize(loss, X)[1](U), (gradient(loss, X) * U).sum())


@pytest.mark.slow
@works("torch", "second derivatives: create_graph, torch.func.hessian and nested transforms")
@works("torch", "torch.autograd.functional.hessian, hvp, vhp")
def test_second_derivatives(loss):
    wanted = second(loss, U)
    found = {
        "create_graph": twice(loss, X, U),
        "grad of grad": grad(lambda x: (grad(loss)(x) * U).sum())(X),
        "jvp of grad": jvp(grad(loss), (X,), (U,))[1],
        "grad of jvp": grad(lambda x: jvp(loss, (x,), (U,))[1])(X),
        "dual of grad": dual(lambda x: torch.autograd.grad(loss(y := x.requires_grad_()), y, create_graph=True)[0]),
        "hvp": autograd.hvp(loss, X, U)[1],
        "vhp": autograd.vhp(loss, X, U)[1],
    }
    assert [name for name, value in found.items() if not close(value, wanted)] == []
    many = twice(loss, X, torch.stack([U, W]))
    assert close(many[0], wanted)
    assert close(many[1], second(loss, W))
    assert close(jvp(lambda x: jvp(loss, (x,), (U,))[1], (X,), (W,))[1], (wanted * W).sum())


@pytest.mark.slow
@works("torch", "third derivatives: create_graph twice, torch.func", note="torch's own layer norm is wrong there (2.13)")
def test_third_derivatives(loss):
    def along(x):
        (first,) = torch.autograd.grad(loss(x), x, create_graph=True)
        return torch.autograd.grad((first * U).sum(), x, create_graph=True)[0]

    x = X.clone().requires_grad_()
    (found,) = torch.autograd.grad((along(x) * W).sum(), x)
    ahead, back = ((X + sign * STEP * W).requires_grad_() for sign in (1, -1))
    assert close(found, (along(ahead) - along(back)) / (2 * STEP))
    assert close(jvp(grad(lambda y: jvp(loss, (y,), (U,))[1]), (X,), (W,))[1], found)


@pytest.mark.slow
def test_hessians_of_a_plane(loss):
    wanted = torch.stack([torch.stack([(second(loss, a) * b).sum() for b in (U, W)]) for a in (U, W)])
    plane, origin = (lambda z: loss(X + z[0] * U + z[1] * W)), torch.zeros(2, dtype=torch.float64)
    for made in (hessian(plane), jacrev(jacrev(plane)), jacfwd(jacfwd(plane)), jacrev(jacfwd(plane))):
        assert close(made(origin), wanted)
    assert close(autograd.hessian(plane, origin, vectorize=True), wanted)


@works("torch", "torch.func.vmap over images, nested, chunked, any in_dims and randomness")
def test_vmap_is_the_loop(loss):
    def of_one(image):
        return loss(image[None])

    wanted, slopes = torch.stack([of_one(x) for x in X]), torch.stack([gradient(loss, x[None])[0] for x in X])
    assert close(vmap(of_one, in_dims=3, randomness="different")(X.movedim(0, 3)), wanted)
    assert close(vmap(vmap(of_one), randomness="same")(X[None]), wanted[None])
    assert close(vmap(grad(of_one), chunk_size=1)(X), slopes)


@works("torch", "per-sample gradients of weights: vmap of grad of functional_call of a PatchSVAE")
def test_gradients_of_weights_per_image():
    model = PatchSVAE.from_cell(from_model(SPECS[0], 0, "cell")).double()
    weights = {name: value.detach() for name, value in model.named_parameters()}

    def of_one(weights, image):
        return torch.func.functional_call(model, weights, (image[None],)).recon.square().sum()

    found = vmap(grad(of_one), in_dims=(None, 0))(weights, X)
    for place, image in enumerate(X):
        model.zero_grad()
        model(image[None]).recon.square().sum().backward()
        assert all(close(found[name][place], value.grad) for name, value in model.named_parameters() if value.grad is not None)


M, RATIO = draw(2, 6, 4), torch.rand(2, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
PARTS = {
    "rows": (spectral.unit_rows, (M,)),
    "values": (lambda M: spectral.spectrum(M).S, (M,)),
    "gate": (lambda M, ratio: spectral.gate(M, spectral.spectrum(M), ratio), (M, RATIO)),
    "a gate of its own values": (lambda M: spectral.gate(M, found := spectral.spectrum(M), found.S), (M,)),
    "attention": (attend, (draw(2, 5, 2), draw(2, 5, 2, seed=1), draw(2, 5, 2, seed=2))),
    "attention to itself": (lambda q: attend(q, q, q), (draw(2, 5, 2),)),
    "smoothing": (
        lambda x, *w: smooth(x, w[:2], w[2:]),
        (draw(1, 2, 4, 4), draw(3, 2, 3, 3), draw(3), draw(2, 3, 3, 3), draw(2)),
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_every_part_by_gradcheck(name):
    function, given = PARTS[name]
    given = [part.clone().requires_grad_() for part in given]
    assert torch.autograd.gradcheck(function, given, check_batched_grad=True, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, given, check_batched_grad=True, check_fwd_over_rev=True, fast_mode=True)


DEGENERATE = {
    "orthonormal": torch.linalg.qr(draw(6, 4)).Q,
    "rank one": draw(6, 1) * draw(1, 4, seed=1),
    "two alike": torch.linalg.qr(draw(6, 4)).Q * torch.tensor([2.0, 1, 1, 0.5], dtype=torch.float64),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_equal_singular_values_keep_derivatives_finite(name):
    given = DEGENERATE[name]
    r = torch.tensor([1.1, 0.9, 1.0, 1.05], dtype=torch.float64)

    def loss(M):
        return spectral.gate(M, spectral.spectrum(M), r).pow(3).sum()

    assert grad(loss)(given).isfinite().all()
    assert jvp(loss, (given,), (torch.ones_like(given),))[1].isfinite()
    assert hessian(loss)(given).isfinite().all()


def test_the_operators_give_the_same_values():
    S, W = derivatives.spectrum(M)
    found = spectral.spectrum(M)
    assert torch.allclose(S, found.S, rtol=1e-13)
    assert torch.allclose((W * RATIO[:, None]) @ W.mT, (found.W * RATIO[:, None]) @ found.W.mT, atol=1e-12)
    assert torch.allclose(derivatives.gate(M, RATIO), spectral.gate(M, found, RATIO), atol=1e-12)


@refused("torch", "a gradient, a transform or a trace of a fitted map", "DERIVATIVE", note="what it maps is differentiated")
def test_a_fitted_map_has_no_derivative():
    source, target = draw(20, 4), draw(20, 4, seed=1)
    roads = (
        lambda: fit(source.clone().requires_grad_(), target),
        lambda: grad(lambda x: fit(x, target).scale)(source),
        lambda: vmap(lambda x: fit(x, target).scale)(draw(3, 20, 4)),
        lambda: jvp(lambda x: fit(x, target).scale, (source,), (source,)),
        lambda: frames(draw(3, 4, 4).requires_grad_()),
    )
    for road in roads:
        with pytest.raises(InputError) as caught:
            road()
        assert caught.value.code == "DERIVATIVE"
    mapped = fit(source, target)(x := source.clone().requires_grad_())
    assert torch.autograd.grad(mapped.sum(), x)[0].isfinite().all()


TOKENS, OTHERS, ROWS, TARGET = draw(8, 10, 4), draw(8, 10, 4, seed=1), draw(20, 4), draw(20, 4, seed=1)
CONSTANTS = {  # what decides by its numbers, and tensors of its kind
    "a whitened map": (lambda x: fit(x, TARGET, whiten=True).rotation, ROWS),
    "a consensus": (lambda x: generalised([x, TARGET]).tokens, ROWS),
    "a map into a frame": (lambda x: map_into(frame(), x).rotation, ROWS),
    "an alignment": (lambda x: align(pair(), x).frame.tokens, X.repeat(2, 1, 1, 1).float()),
    "a swap": (lambda x: swap(pair(), "one", "other", x).errors["own"], X.repeat(2, 1, 1, 1).float()),
    "a score": (lambda x: torch.tensor(score(x, OTHERS).r2), TOKENS),
    "a CV": (lambda x: torch.tensor(simplex_cv.cv(x, torch.arange(8)).value), TOKENS),
    "a clustered mean": (lambda x: torch.tensor(estimates.clustered_mean(x, torch.arange(8)).value), TOKENS[:, 0, 0]),
    "a radius error": (lambda x: torch.tensor(row_figures.radius_error(x)), TOKENS),
}


@cache
def frame():
    return generalised([ROWS, TARGET])


@cache
def pair():
    return compose({name: from_model(SPECS[0], seed, name) for seed, name in enumerate(("one", "other"))})


def imagined(function, x):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        return function(mode.from_tensor(x))


@refused(
    "torch",
    "torch.func, make_fx, jit.trace, fake tensors: fits, alignments, scores, swaps, CVs",
    "DERIVATIVE",
    note="one by one",
)
@pytest.mark.parametrize("name", CONSTANTS)
def test_what_is_fitted_or_measured_is_not_transformed(name):
    function, x = CONSTANTS[name]
    assert function(x).isfinite().all()
    roads = {
        "vmap": lambda: vmap(function)(torch.stack([x, x])),
        "grad": lambda: grad(lambda x: function(x).sum())(x),
        "jvp": lambda: jvp(function, (x,), (x,)),
        "dual": lambda: dual_of(function, x),
        "make_fx": lambda: make_fx(function)(x),
        "jit.trace": lambda: torch.jit.trace(function, (x,), check_trace=False),
        "fake": lambda: imagined(function, x),
    }
    for road in roads.values():
        with pytest.raises(InputError) as caught:
            road()
        assert caught.value.code == "DERIVATIVE"


def dual_of(function, x):
    with forward_ad.dual_level():
        return function(forward_ad.make_dual(x, x))


@pytest.mark.slow
@works("torch", "vmap, grad, jvp, make_fx of simplex_volumes, effective_rank and of maps that were fitted before")
@pytest.mark.parametrize("name", ["volumes", "rank", "map"])
def test_what_is_computed_of_tensors_is_transformed(name):
    function = {
        "volumes": simplex_cv.simplex_volumes,
        "rank": lambda x: row_figures.effective_rank(x.abs()),
        "map": fit(draw(20, 4), draw(20, 4, seed=1)),
    }[name]
    x, many = draw(5, 4), torch.stack([draw(5, 4), draw(5, 4, seed=1)])
    assert close(vmap(function)(many), torch.stack([function(one) for one in many]))
    assert close(make_fx(function)(many[1])(x), function(x))
    along = (function(x + STEP * many[1]) - function(x - STEP * many[1])) / (2 * STEP)
    assert close(jvp(function, (x,), (many[1],))[1], along)
    assert close((grad(lambda x: function(x).sum())(x) * many[1]).sum(), along.sum())
