"""Pieces of work on threads: every one done, every error told, nobody else's number of threads changed."""

import os
import subprocess
import sys
import threading
from functools import partial

import pytest
import torch

from batteries import CellSpec, PatchSVAE
from batteries.engine import parallel
from batteries.errors import IntegrityError
from composer import compose
from composer.container.outputs import TAPS
from tests.support.cells import from_model

SPEC = CellSpec(V=12, D=4, patch_size=4, hidden=8)


@pytest.fixture(autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cells():
    return [from_model(SPEC, seed, f"cell-{seed}") for seed in range(6)]


def cut(cells):
    """A container that works in many pieces."""
    container = compose(cells)
    container.chunk_bytes = 4 * 2**20
    return container


def images(n=64):
    return torch.randn(n, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def count_in_a_new_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_every_piece_is_done_once_on_several_threads():
    done, names = [], set()

    def work(piece):
        done.append(piece)
        names.add(threading.current_thread().name)
        assert not torch.is_grad_enabled()
        assert torch.get_num_threads() == 1
        threading.Event().wait(0.002)

    parallel.run(range(50), work)
    assert sorted(done) == list(range(50))
    assert len(names) == 2


@pytest.mark.parametrize("kind", [IndexError, ValueError, KeyboardInterrupt])
def test_the_first_error_is_told_and_the_rest_left(kind):
    done = []

    def work(piece):
        if piece == 3:
            raise kind("of piece 3")
        done.append(piece)
        threading.Event().wait(0.005)

    with pytest.raises(kind, match="of piece 3"):
        parallel.run(range(1000), work)
    assert len(done) < 100
    assert torch.get_num_threads() == 2


@pytest.mark.slow
def test_nobodys_number_of_threads_changes(cells):
    container = cut(cells)
    x = images(16)
    seen = []

    def user():
        mine = torch.get_num_threads()
        with torch.no_grad():
            for _ in range(5):
                container(x)
        seen.append((mine, torch.get_num_threads()))

    parallel.run(range(8), lambda _: None)  # the threads are made, which alone sets a number for a moment
    users = [threading.Thread(target=user) for _ in range(4)]
    for one in users:
        one.start()
    for one in users:
        one.join()
    assert seen == [(2, 2)] * 4
    assert torch.get_num_threads() == 2
    assert count_in_a_new_thread() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")
def test_a_child_makes_threads_of_its_own():
    parallel.run(range(8), lambda _: None)
    child = os.fork()
    if not child:
        done = []
        parallel.run(range(8), done.append)
        os._exit(0 if sorted(done) == list(range(8)) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_another_threads_number_is_not_ours():
    setter = threading.Thread(target=torch.set_num_threads, args=(1,))
    setter.start()
    setter.join()
    parallel.run(range(8), lambda _: None)
    assert torch.get_num_threads() == 2
    assert count_in_a_new_thread() == 1


def test_the_answer_is_that_of_one_thread(cells):
    container, x = cut(cells), images(32)
    with torch.no_grad():
        several = container(x, TAPS)
        torch.set_num_threads(1)
        one = container(x, TAPS)
    for name in container.names:
        for tap in TAPS:
            assert torch.allclose(getattr(several[name], tap), getattr(one[name], tap), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("grad", [False, True])
def test_autocast_changes_nothing(cells, grad):
    container, x = cut(cells), images(32).requires_grad_(grad)
    plain = container(x)
    with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(grad):
        cast = container(x)
        decoded = container.decode("high/cell-0", torch.randn(2, 4, 12, 4), (2, 2))
    assert cast.recon.dtype == decoded.dtype == torch.float32
    assert torch.allclose(cast.recon, plain.recon, rtol=1e-5, atol=1e-6)


def test_under_inference_mode(cells):
    container, x = cut(cells), images(32)
    with torch.inference_mode():
        found = container(x).error
    assert found.is_inference()
    with torch.no_grad():
        assert torch.allclose(found, container(x).error)


@pytest.mark.parametrize("tap", TAPS)
def test_second_derivatives_are_those_of_differences(cells, tap):
    x = images(1)[..., :8, :8].double()
    step = 1e-5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    container = compose(cells, dtype=torch.float64)

    def gradient(at):
        found = container(at, TAPS)["high/cell-0"].group.tensor(tap)
        return torch.autograd.grad(found.pow(3).sum(), at, create_graph=True)[0]

    at = x.clone().requires_grad_()
    (second,) = torch.autograd.grad((gradient(at) * step).sum(), at)
    wanted = (gradient((x + step).requires_grad_()) - gradient((x - step).requires_grad_())) / 2
    assert torch.allclose(second, wanted.detach(), rtol=1e-5, atol=1e-5 * float(wanted.detach().abs().max()))


def test_a_state_without_a_lock_is_refused(cells):
    for state in (None, {}, {"lock": 3}, {"lock": {"a": "b"}}):
        with pytest.raises(IntegrityError, match="without a lock"):
            compose(cells).set_extra_state(state)


@pytest.mark.parametrize("grad", [True, False])
def test_results_come_in_order_with_the_callers_gradients(grad):
    def call(number):
        threading.Event().wait(0.002 * (7 - number))
        return number, torch.is_grad_enabled(), torch.get_num_threads()

    with torch.set_grad_enabled(grad):
        found = parallel.results([partial(call, number) for number in range(7)])
    assert found == [(number, grad, 1) for number in range(7)]
    assert parallel.results([]) == []


def test_seeded_weights_are_the_same_in_many_threads():
    """All draws share torch's global generator, so makers of weights wait for each other."""
    alone = [from_model(SPEC, seed, "a").digest for seed in range(12)]

    def make(seed):
        PatchSVAE.from_cell(from_model(SPEC, 99, "b"))  # draws weights too, and replaces them
        return from_model(SPEC, seed, "a").digest

    before = torch.get_rng_state()
    assert parallel.results([partial(make, seed) for seed in range(12)] * 3) == alone * 3
    assert torch.equal(torch.get_rng_state(), before)


def test_short_pieces_do_not_wait_for_long_ones():
    began, ended = threading.Event(), threading.Event()

    def long_piece():
        began.set()
        assert ended.wait(30)

    other = threading.Thread(target=lambda: parallel.results([long_piece] * 2, long=True))
    other.start()
    assert began.wait(30)
    try:
        assert parallel.results([lambda: 1, lambda: 2]) == [1, 2]
    finally:
        ended.set()
        other.join()


def test_long_pieces_end_when_another_one_fails():
    steps = []

    def trial():
        for step in range(10_000):
            parallel.leave_if_failed()
            steps.append(step)
            threading.Event().wait(0.001)

    def fault():
        threading.Event().wait(0.01)
        raise ZeroDivisionError("of a piece")

    with pytest.raises(ZeroDivisionError, match="of a piece"):
        parallel.results([trial, fault], long=True)
    assert len(steps) < 5_000
    parallel.leave_if_failed()  # outside there is nothing to leave


def test_long_pieces_end_when_their_caller_is_interrupted():
    code = """
import os, signal, threading, time
from batteries.engine import parallel

def trial():
    for step in range(600):
        parallel.leave_if_failed()
        time.sleep(0.05)

threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
began = time.monotonic()
try:
    parallel.results([trial, trial], long=True)
except KeyboardInterrupt:
    print(time.monotonic() - began < 10)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("True\n", "")
