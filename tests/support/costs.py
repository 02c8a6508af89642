"""What a piece of work costs."""

import contextlib
import time
import tracemalloc
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fail if the block takes more seconds of a processor, in all threads of this process.

    Memory is traced in a run of its own: the tracer takes eight times what reading a bundle takes.
    """
    assert not tracemalloc.is_tracing(), "a traced block is not a timed one"
    before = time.process_time()
    yield
    took = time.process_time() - before
    assert took <= seconds, f"{took:.3f} s, and at most {seconds} were asked"


def peak_of(work: Callable[[], object]) -> int:
    """Return the most bytes that Python held for a piece of work at one time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
