"""What a piece of work costs."""

import contextlib
import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fail if the block takes more seconds of a processor in this thread.

    Other threads and programs do not count, nor does the collector, which looks at what earlier tests left. Memory is
    traced in a run of its own: the tracer takes eight times what reading a bundle takes.
    """
    assert not tracemalloc.is_tracing(), "a traced block is not a timed one"
    gc.disable()
    before = time.thread_time()
    try:
        yield
        took = time.thread_time() - before
    finally:
        gc.enable()
    assert took <= seconds, f"{took:.3f} s, and at most {seconds} were asked"


def peak_of(work: Callable[[], object]) -> int:
    """Return the most bytes that Python held for a piece of work at one time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
