"""Dispatcher of kernels compiled by numba, with a fallback to torch, and threads to run them.

numba is optional and imported on the first request for a kernel: if it is missing (it comes with the ``fast`` extra), broken,
too old, disabled, or fails to compile, :class:`Kernels` returns None and the caller uses torch. numba and each module of
kernels are imported only once, even if that fails: a second import after a failure half way fails differently.

Threads are started for each call and end with it: concurrent callers share nothing, and the process may fork.
"""

from __future__ import annotations

import importlib
import threading
import warnings
from collections import deque
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from batteries.engine import dispatch

OLDEST = (0, 68)  # numba of the ``fast`` extra
REMEDY = "pip install 'svae-batteries[fast]'"
THREAD_WORK = 3_000_000  # nanoseconds of work that justify another thread: with less, it was slower right after
# torch's own work, whose idle worker seems to hold its core for milliseconds

_compiling = threading.RLock()  # one kernel at a time, as in numba; reentrant, since a trial may request another kernel
_warned: set[str] = set()


class Kernels:
    """Kernels of one module, each imported, compiled and tried on its first request.

    A caller tests the tensors with :meth:`serves`, tests their shapes for its kernel, and calls this object with a key. If any
    of these fails, it uses torch.

    The result for a key never changes, in any thread: the kernel, or None to use torch, without a warning if numba is missing,
    and with a single one if numba or a kernel does not work.

    Args:
        module: Full name of the module.
        find: Function of the module and a key that returns one or several kernels.
        trial: Function of these and the key that runs them on a small input, which compiles them or loads them from disk.
        dtypes: Dtypes of tensors that the kernels read.
        fewest: Smallest number of pieces of work for which they are faster than torch.
        forward_only: True if the kernels have no derivative, so that torch is used where one is needed.
    """

    def __init__(
        self,
        module: str,
        find: Callable[..., Any],
        trial: Callable[..., object],
        *,
        dtypes: tuple[torch.dtype, ...],
        fewest: int = 1,
        forward_only: bool = False,
    ) -> None:
        self.name = module
        self.fewest = fewest
        self._find = find
        self._trial = trial
        self._dtypes = dtypes
        self._forward_only = forward_only
        self._found: dict[tuple[Hashable, ...], Any] = {}

    def serves(self, first: Tensor, *others: Tensor, each: int = 1) -> bool:
        """Return True if the kernels accept these tensors: large enough, of their dtypes, real, on the CPU and not watched.

        Args:
            first: Input whose size gives the number of pieces of work.
            others: Other inputs of the kernel.
            each: Elements of ``first`` in a piece. They are not counted under a compiler, which would treat their number as a
                constant.
        """
        # first, since it is cheap: for a single matrix the other tests take noticeable time
        if torch.compiler.is_compiling() or first.numel() < self.fewest * each:
            return False
        given = first, *others
        if any(part.dtype not in self._dtypes for part in given) or not dispatch.plain(*given):
            return False
        return not (self._forward_only and torch.is_grad_enabled() and any(part.requires_grad for part in given))

    @property
    def module(self) -> Any:
        """Module of the kernels, for its constants; needs numba."""
        return importlib.import_module(self.name)

    def __call__(self, *key: Hashable) -> Any:
        """Return the kernels for a key, or None to use torch."""
        if key in self._found:
            return self._found[key]
        with _compiling:
            if key not in self._found:
                self._found[key], reason = self._load(*key)
                _warn_once(reason)
        return self._found[key]

    def _load(self, *key: Hashable) -> tuple[Any, str]:
        """Load the kernels for a key; return them or None, with the reason if it deserves a warning."""
        module, reason = _imported(self.name)
        if module is None:
            return None, reason
        try:
            found = self._find(module, *key)
            self._trial(found, *key)
        except Exception as error:
            return None, f"the kernel {self.name}{key} does not compile here, using torch instead: {error}"
        return found, ""


@cache
def _imported(name: str) -> tuple[Any, str]:
    """Import a module of kernels; return it or None, with the reason."""
    usable, reason = _numba()
    if not usable:
        return None, reason
    try:
        return importlib.import_module(name), ""
    except Exception as error:
        return None, f"the fast kernels do not work with the installed numba, using torch instead: {error!r}"


@cache
def _numba() -> tuple[bool, str]:
    """Return True if numba is usable, with the reason if not and if it deserves a warning."""
    try:
        numba = importlib.import_module("numba")
        version = tuple(int(part) for part in numba.__version__.split(".")[:2])
        disabled = bool(numba.config.DISABLE_JIT)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "numba"
        return False, "" if missing else f"numba is installed but does not work, using torch instead: {error!r}"
    if version < OLDEST:
        return False, f"numba {numba.__version__} is too old, using torch instead; {REMEDY}"
    return not disabled, ""


def _warn_once(reason: str) -> None:
    if reason and reason not in _warned:
        _warned.add(reason)
        warnings.warn(reason, RuntimeWarning, stacklevel=4)


def share(run: Callable[[int, int], object], count: int, nanoseconds: float) -> None:
    """Call ``run(start, stop)`` for all of ``count`` pieces of work, on as many threads as torch has and the work justifies.

    Args:
        run: Function of a range of pieces, safe to run concurrently.
        count: Number of pieces.
        nanoseconds: Approximate time of one piece.
    """
    threads = min(torch.get_num_threads(), 1 + int(count * nanoseconds / THREAD_WORK))
    if threads == 1:
        run(0, count)
        return
    step = -(-count // (8 * threads))  # small steps, so that others take over from a delayed thread
    starts = deque(range(0, count, step))

    def work() -> None:
        while starts:
            try:
                start = starts.popleft()
            except IndexError:  # another thread took the last
                return
            run(start, min(start + step, count))

    helpers = [threading.Thread(target=work) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    work()
    for helper in helpers:
        helper.join()
