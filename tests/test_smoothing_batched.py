"""The smoothing of many cells at once against that of each by itself, and that its answer depends on the image alone."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from batteries import compiled
from batteries import smoothing as single
from composer import smoothing
from tests.laws import given, settings, st

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}  # of the largest of the answer
SIDES = st.sampled_from([(1, 1), (3, 5), (17, 33), (64, 64), (2, 130)]) | st.tuples(st.integers(1, 20), st.integers(1, 70))


def case(C=2, B=1, channels=3, width=16, height=9, across=21, dtype=torch.float32, seed=0):
    """Images, weights of two layers, and a gradient on the answer."""
    g = torch.Generator().manual_seed(seed)

    def drawn(*shape, scale=1.0):
        return (scale * torch.randn(shape, generator=g, dtype=torch.float64)).to(dtype)

    first = drawn(C, width, channels, 3, 3, scale=0.5), drawn(C, width)
    last = drawn(C, channels, width, 3, 3, scale=0.2), drawn(C, channels)
    return drawn(C, B, channels, height, across), first, last, drawn(C, B, channels, height, across)


def alone(images, first, last):
    """Every cell by itself."""
    cells = zip(images, *first, *last, strict=True)
    return torch.stack([single.smooth(x, (w1, b1), (w2, b2)) for x, w1, b1, w2, b2 in cells])


def answers(way, images, first, last, grad):
    x = images.detach().clone().requires_grad_()
    smoothed = way(x, first, last)
    smoothed.backward(grad)
    return smoothed.detach(), x.grad


def near(found, wanted, dtype=torch.float32):
    scale = float(wanted.abs().max()) if wanted.numel() else 1.0
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype == dtype
    assert torch.allclose(found, wanted, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.integers(1, 18), SIDES, st.sampled_from(list(TOLERANCE)))
def test_values_and_gradients_are_those_of_each_cell(C, B, channels, width, sides, dtype):
    given = case(C, B, channels, width, *sides, dtype)
    for found, wanted in zip(answers(smoothing.smooth, *given), answers(alone, *given), strict=True):
        near(found, wanted, dtype)


@pytest.mark.parametrize("fast", [True, False])
def test_against_float64(monkeypatch, fast):
    if not fast:
        monkeypatch.setattr(smoothing, "_fast", lambda images, weights: False)
    images, first, last, grad = case(3, 2, height=40, across=70)
    wide = [images.double(), *(tuple(w.double() for w in pair) for pair in (first, last)), grad.double()]
    for found, wanted in zip(answers(smoothing.smooth, images, first, last, grad), answers(alone, *wide), strict=True):
        near(found, wanted.float())


def test_grouped_as_elsewhere_is_the_same():
    images, first, last, _ = case(3, 2, dtype=torch.float64)
    near(smoothing._grouped(images, *first, *last), alone(images, first, last), torch.float64)


def test_the_slope_by_differences():
    images, first, last, _ = case(2, 1, 2, 3, 4, 5, torch.float64)
    assert torch.autograd.gradcheck(lambda x: smoothing.smooth(x, first, last), images.requires_grad_())


def bent(x):
    """GELU of each number by the kernel: one channel, a middle of one, and weights that pass a pixel on."""
    images = x.reshape(1, 1, 1, 1, -1).clone().requires_grad_()
    tap = torch.zeros(1, 1, 1, 3, 3)
    tap[..., 1, 1] = 1.0
    nothing = torch.zeros(1, 1)
    smoothed = smoothing.smooth(images, (tap, nothing), (tap, nothing))
    (slope,) = torch.autograd.grad(smoothed.sum(), images)
    return (smoothed.detach() - images.detach()).flatten(), slope.flatten() - 1


@pytest.mark.parametrize(("low", "high"), [(-8, 8), (-1, 1), (-1e-3, 1e-3), (-1e6, 1e6), (5.3, 5.5), (-5.5, -5.3)])
def test_gelu_is_exact_to_float32(low, high):
    pytest.importorskip("numba")
    x = torch.linspace(low, high, 100_001)
    exact = x.double().requires_grad_()
    wanted = torch.nn.functional.gelu(exact)
    (slope,) = torch.autograd.grad(wanted.sum(), exact)
    found, found_slope = bent(x)
    size = x.abs().double().clamp_min(1)  # the image itself was added and taken off, which rounds
    assert ((found.double() - wanted.detach()).abs() / size).max() < 3e-7
    assert (found_slope.double() - slope).abs().max() < 5e-7


def test_gelu_of_zero_is_zero():
    assert bent(torch.zeros(3))[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", [(0, 0), (4, 7), (8, 20)])
def test_what_is_not_finite_spreads_as_it_does_in_a_cell_and_no_further(bad, where):
    images, first, last, grad = case(C=3, B=2)
    clean = answers(smoothing.smooth, images, first, last, grad)
    images[1, 1, 0, where[0], where[1]] = bad
    found = answers(smoothing.smooth, images, first, last, grad)
    wide = [images.double(), *(tuple(w.double() for w in pair) for pair in (first, last)), grad.double()]
    for ours, wanted, before in zip(found, answers(alone, *wide), clean, strict=True):
        assert torch.equal(ours.isfinite(), wanted.isfinite())
        assert torch.equal(ours.isnan(), wanted.isnan())
        assert not ours.isfinite().all()
        assert torch.equal(ours[wanted.isfinite()], before[wanted.isfinite()])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite(bad):
    images, first, last, grad = case(C=2, B=2)
    grad[1, 0, 1, 4, 4] = bad
    found, wanted = (answers(way, images, first, last, grad)[1] for way in (smoothing.smooth, alone))
    assert torch.equal(found.isfinite(), wanted.isfinite())
    assert not found[1, 0].isfinite().all()


def by_columns(tensor):
    """The same numbers, with strides the other way round."""
    axes = tuple(reversed(range(tensor.ndim)))
    return tensor.permute(axes).contiguous().permute(axes)


def test_strides_do_not_matter():
    images, first, last, grad = case(3, 2, height=8, across=12)
    wanted = answers(smoothing.smooth, images, first, last, grad)
    spread = torch.empty(2, 3, 8, 12, 3).permute(1, 0, 4, 2, 3).copy_(images)
    assert not spread.is_contiguous()
    turned = (tuple(map(by_columns, pair)) for pair in (first, last))
    found = answers(smoothing.smooth, spread, *turned, by_columns(grad))
    shared = smoothing.smooth(images[:, :1].expand(3, 2, 3, 8, 12), first, last)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert torch.equal(shared[:, 0], shared[:, 1])
    x = images.clone().requires_grad_()
    smoothing.smooth(x, first, last).sum().backward()  # a gradient of stride zero
    near(x.grad, answers(alone, images, first, last, torch.ones_like(grad))[1])


def test_nothing_in_nothing_out():
    images, first, last, grad = case(B=0)
    for found in answers(smoothing.smooth, images, first, last, grad):
        assert found.shape == images.shape


def test_images_and_weights_are_left_alone_and_weights_get_no_gradient():
    images, first, last, grad = case()
    given = [images, *first, *last, grad]
    before = [t.clone() for t in given]
    answers(smoothing.smooth, images, tuple(w.requires_grad_() for w in first), tuple(w.requires_grad_() for w in last), grad)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    assert all(w.grad is None for w in (*first, *last))
    assert not smoothing.smooth(images, first, last).requires_grad


def test_the_answer_depends_on_the_image_and_its_cell_alone():
    """Not on the others, nor on the number of threads: to the bit."""
    pytest.importorskip("numba")  # to the bit, which torch does not promise
    images, first, last, grad = case(40, 2, height=64, across=64)
    wanted = answers(smoothing.smooth, images, first, last, grad)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found = answers(smoothing.smooth, images, first, last, grad)
            assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    finally:
        torch.set_num_threads(threads)
    few = answers(smoothing.smooth, images[7:9, 1:], *(tuple(w[7:9] for w in pair) for pair in (first, last)), grad[7:9, 1:])
    assert all(torch.equal(a, b[7:9, 1:]) for a, b in zip(few, wanted, strict=True))


def test_four_threads_at_once():
    given = [case(20, 1, height=30, across=40, seed=seed) for seed in range(4)]
    wanted = [answers(smoothing.smooth, *arguments) for arguments in given]
    wrong = []

    def work(index):
        for _ in range(5):
            found = answers(smoothing.smooth, *given[index])
            if not all(torch.equal(a, b) for a, b in zip(found, wanted[index], strict=True)):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_fast_route_is_taken_where_it_is_meant_to_be():
    pytest.importorskip("numba")
    images, first, last, _ = case()
    assert smoothing._fast(images, [*first, *last])
    assert not smoothing._fast(images.double(), [w.double() for w in (*first, *last)])
    assert not smoothing._fast(images[:, :0], [*first, *last])


@pytest.fixture
def afresh(monkeypatch):
    """Kernels are looked for again."""
    monkeypatch.setattr(smoothing._convolution, "_found", {})
    monkeypatch.setattr(compiled, "_warned", set())


@pytest.mark.usefixtures("afresh")
def test_without_numba_it_is_torchs(monkeypatch):
    monkeypatch.setattr(compiled, "_imported", lambda name: (None, ""))
    given = case(3, 2)
    for found, wanted in zip(answers(smoothing.smooth, *given), answers(alone, *given), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.usefixtures("afresh")
def test_a_kernel_that_does_not_compile_is_reported_once(monkeypatch):
    pytest.importorskip("numba")

    def broken(*args):
        raise TypeError("no such instruction")

    monkeypatch.setattr(smoothing._convolution.module, "smooth", broken)
    images, first, last, _ = case()
    with pytest.warns(RuntimeWarning, match="no such instruction"):
        found = smoothing.smooth(images, first, last)
    assert torch.equal(found, smoothing.smooth(images, first, last))
    assert torch.equal(found, alone(images, first, last))


@pytest.mark.slow
def test_importing_it_does_not_import_numba():
    code = "import sys; import composer.smoothing; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_on_a_processor_with_small_registers(tmp_path):
    """The vectors are narrower there, for every kernel that is written in them."""
    pytest.importorskip("numba")
    code = (
        "import torch\nfrom composer import attention, lanes, smoothing\n"
        "assert lanes.WIDTH == 16\n"
        "g = torch.Generator().manual_seed(0)\n"
        "draw = lambda *shape: torch.randn(shape, generator=g)\n"
        "x = draw(2, 1, 3, 6, 37).requires_grad_()\n"
        "weights = draw(2, 5, 3, 3, 3), draw(2, 5), draw(2, 3, 5, 3, 3), draw(2, 3)\n"
        "assert smoothing._fast(x, weights)\n"
        "answers = smoothing.smooth(x, weights[:2], weights[2:]), smoothing._plainly(x, *weights)\n"
        "for a, b in (answers, [torch.autograd.grad(y.square().sum(), x)[0] for y in answers]):\n"
        "    assert torch.allclose(a, b, atol=1e-5 * float(b.abs().max()))\n"
        "q = draw(10, 2, 70, 3)\n"
        "assert attention._kernel(q, q, q)\n"
        "plain = torch.nn.functional.scaled_dot_product_attention(q, q, q)\n"
        "assert torch.allclose(attention.attend(q, q, q), plain, atol=1e-5)\n"
    )
    chosen = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ, **chosen}).returncode == 0


@pytest.mark.cuda
def test_on_cuda_it_is_grouped():
    images, first, last, grad = case(dtype=torch.float64)
    there = [images.cuda(), *(tuple(w.cuda() for w in pair) for pair in (first, last)), grad.cuda()]
    for found, wanted in zip(answers(smoothing.smooth, *there), answers(alone, images, first, last, grad), strict=True):
        near(found.cpu(), wanted, torch.float64)
