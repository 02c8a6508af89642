"""Batches made ahead: the same ones, in order, never many, and no thread left behind."""

import threading
import time

import pytest

from batteries.data.prefetch import DEPTH, ahead


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 1), (3, 12), (5, 5)])
def test_order(start, stop):
    assert list(ahead(lambda k: k * k, start, stop)) == [k * k for k in range(start, stop)]


def test_it_runs_ahead_but_not_far():
    made = []
    iterator = ahead(made.append, 0, 100)
    for used in range(1, 20):
        next(iterator)
        time.sleep(0.002)
        assert used <= len(made) <= used + DEPTH
    iterator.close()


def test_the_next_is_made_while_the_last_is_used():
    begun = [threading.Event() for _ in range(10)]

    def make(k):
        begun[k].set()
        return k

    for k in ahead(make, 0, 10):
        if k < 9:
            assert begun[k + 1].wait(timeout=30)  # nothing asked for it yet


def test_an_error_comes_where_its_result_would_have():
    def make(k):
        if k == 2:
            raise ValueError("two")
        return k

    iterator = ahead(make, 0, 5)
    assert [next(iterator), next(iterator)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(iterator)


def test_no_thread_is_left():
    iterator = ahead(lambda k: k, 0, 1000)
    next(iterator)
    iterator.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
