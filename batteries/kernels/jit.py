"""Kernels that numba compiles: one dispatcher to choose, to find and to try them and to do without, and threads for their work.

Nothing here imports numba before a kernel is asked for, and nothing needs it: where it is missing (it comes with the ``fast``
extra), broken, too old, switched off, or does not compile, :class:`Kernels` gives None and the caller takes torch's way. Both
numba and a module of kernels are imported once, even to fail: a second import of what failed half way fails in another way.

Threads are started for the call and end with it: callers from several Python threads share nothing, and a process may fork.
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
THREAD_WORK = 3_000_000  # nanoseconds of work that are worth a thread: below it, a second thread was slower right after
# work of torch's own, whose idle worker seems to hold its core for milliseconds

_compiling = threading.RLock()  # one kernel at a time, as numba has it too; and a trial may ask for another kernel
_warned: set[str] = set()


class Kernels:
    """The kernels of one module, each of them imported, compiled and tried when it is first asked for.

    A caller asks :meth:`serves` about the tensors, looks at what else its kernel needs of their shapes, and calls with a key.
    Wherever one of these says no, it takes torch's way.

    The answer to a key is the same ever after, in every thread: the kernel, or None where torch's way is the one to take. That
    is so without numba, which needs no word, and where numba or a kernel does not work here, which gets one warning.

    Args:
        module: Its name, with all packages.
        find: Takes the module and a key, and gives a kernel or several.
        trial: Takes those and the key, and runs them on something small, in which they are compiled or read from the disk.
        dtypes: Of tensors that they read.
        fewest: Pieces of work from which they are worth their call.
        forward_only: Whether there is no derivative for what they make, so that torch's way is taken where one is asked for.
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
        """These tensors are such as the kernels take: enough of them, of their dtypes, real, on the CPU, and watched by nobody.

        Args:
            first: What a kernel reads, by whose size the pieces of work are counted.
            others: All else that it reads.
            each: Numbers of the first in a piece. They are not counted under a compiler, which would take their count for a
                constant.
        """
        # first, as it is cheap: one matrix alone notices the others
        if torch.compiler.is_compiling() or first.numel() < self.fewest * each:
            return False
        given = first, *others
        if any(part.dtype not in self._dtypes for part in given) or not dispatch.plain(*given):
            return False
        return not (self._forward_only and torch.is_grad_enabled() and any(part.requires_grad for part in given))

    @property
    def module(self) -> Any:
        """The module itself, for its constants; only where numba is."""
        return importlib.import_module(self.name)

    def __call__(self, *key: Hashable) -> Any:
        """Kernels of a key, or None."""
        if key in self._found:
            return self._found[key]
        with _compiling:
            if key not in self._found:
                self._found[key], reason = self._load(*key)
                _warn_once(reason)
        return self._found[key]

    def _load(self, *key: Hashable) -> tuple[Any, str]:
        """Kernels or None, and why not, where that is worth a warning."""
        module, reason = _imported(self.name)
        if module is None:
            return None, reason
        try:
            found = self._find(module, *key)
            self._trial(found, *key)
        except Exception as error:
            return None, f"the kernel {self.name}{key} does not compile here, torch's way is used: {error}"
        return found, ""


@cache
def _imported(name: str) -> tuple[Any, str]:
    """Module of kernels, or None and the reason."""
    usable, reason = _numba()
    if not usable:
        return None, reason
    try:
        return importlib.import_module(name), ""
    except Exception as error:
        return None, f"the fast kernels do not fit the numba that is installed, torch's way is used: {error!r}"


@cache
def _numba() -> tuple[bool, str]:
    """Whether numba is there and serves, and why not, where that is worth a warning."""
    try:
        numba = importlib.import_module("numba")
        version = tuple(int(part) for part in numba.__version__.split(".")[:2])
        disabled = bool(numba.config.DISABLE_JIT)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "numba"
        return False, "" if missing else f"numba is installed and does not work, torch's way is used: {error!r}"
    if version < OLDEST:
        return False, f"numba {numba.__version__} is too old, torch's way is used; {REMEDY}"
    return not disabled, ""


def _warn_once(reason: str) -> None:
    if reason and reason not in _warned:
        _warned.add(reason)
        warnings.warn(reason, RuntimeWarning, stacklevel=4)


def share(run: Callable[[int, int], object], count: int, nanoseconds: float) -> None:
    """``run(start, stop)`` over ``count`` pieces of work, on as many threads as torch has and the work is worth.

    Args:
        run: Takes pieces from ``start`` to ``stop``; must be safe to run beside itself.
        count: Pieces.
        nanoseconds: One of them takes, roughly.
    """
    threads = min(torch.get_num_threads(), 1 + int(count * nanoseconds / THREAD_WORK))
    if threads == 1:
        run(0, count)
        return
    step = -(-count // (8 * threads))  # a thread that is held up leaves more of them to the others
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
