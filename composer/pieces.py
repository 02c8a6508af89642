"""Independent pieces of work on threads of their own, each with torch on as few threads as leaves all cores busy.

An operator of torch splits its work among threads and waits for them, and a piece that fits in a cache is made of many small
operators. Two pieces on one core each wait for nobody, and neither leaves torch's idle workers spinning on the other's core.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

MOST = 8  # threads: more would wait for the interpreter's lock

Piece = TypeVar("Piece")


def run(pieces: Sequence[Piece], work: Callable[[Piece], object]) -> None:
    """``work`` on every piece, on as many threads as torch has, without gradients.

    Nobody's counter of operators sees the other threads, so under one there is only this thread; nor is there another where one
    piece is all.

    Args:
        pieces: The work.
        work: Must be safe to run beside itself.

    Raises:
        Exception: the first that ``work`` raised, when all threads have ended.
    """
    threads = 1 if is_in_torch_dispatch_mode() else workers(len(pieces))
    if threads == 1:
        for piece in pieces:
            work(piece)
        return
    left, failed = deque(pieces), list[BaseException]()
    inference = torch.is_inference_mode_enabled()

    def work_on() -> None:
        try:
            with _few_threads(threads), torch.inference_mode(inference), torch.no_grad():
                while left and not failed:
                    with contextlib.suppress(IndexError):  # another thread took the last
                        work(left.popleft())
        except BaseException as error:
            failed.append(error)

    helpers = [threading.Thread(target=work_on, name=f"batteries-piece-{n}") for n in range(threads - 1)]
    for helper in helpers:
        helper.start()
    work_on()
    for helper in helpers:
        helper.join()
    if failed:
        raise failed[0]


def workers(pieces: int) -> int:
    """Threads that so many pieces are worth."""
    return max(1, min(pieces, torch.get_num_threads(), MOST))


_lock = threading.Lock()
_inside = 0
_usual = 1


@contextlib.contextmanager
def _few_threads(threads: int) -> Iterator[None]:
    """Give this thread its share of torch's threads.

    torch counts threads for each thread of Python, and new ones start with the number set last, anywhere: so the number of
    before belongs to all who are inside together.
    """
    global _inside, _usual
    with _lock:
        if _inside == 0:
            _usual = torch.get_num_threads()
        _inside += 1
        torch.set_num_threads(max(1, _usual // threads))
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            torch.set_num_threads(_usual)
