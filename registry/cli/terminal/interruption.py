"""End a command on a signal within about a second, with the exit code that a shell expects.

The signal first raises in the main thread, so that the command cleans up. An exception cannot interrupt a thread of a transfer,
a DNS look-up or a long calculation, so a watching thread ends the process a moment later.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

GRACE = 0.7  # seconds between a signal and the end of the process
SIGNALS = (signal.SIGINT, *(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)))
IMPORTLIB = "<frozen importlib._bootstrap>"
SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it

_tidying: list[Callable[[], None]] = []
_installed = False
_told = False  # of the interruption, by a command that has more to say of it


def install() -> None:
    """Install the handlers of this process. Signals that it was started to ignore, as by ``nohup``, stay ignored."""
    global _installed
    if _installed or threading.current_thread() is not threading.main_thread():
        return
    _installed = True
    heeded = {number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)}
    for number in heeded:
        signal.signal(number, _leave)
    sys.unraisablehook = _quiet(sys.unraisablehook)
    told, telling = os.pipe()
    os.set_blocking(telling, False)
    signal.set_wakeup_fd(telling, warn_on_full_buffer=False)
    with contextlib.suppress(RuntimeError):  # no thread can start: signals take effect when Python next handles them
        threading.Thread(target=_watch, args=(told, heeded), name="batteries-signals", daemon=True).start()


def tidy_with(work: Callable[[], None]) -> None:
    """Register work to do before the watching thread ends the process."""
    if work not in _tidying:
        _tidying.append(work)


def end_if_signalled(code: int) -> None:
    """End the process at once if the code is that of a signal: unloading torch alone takes two seconds."""
    if _installed and code in {exit_code(number) for number in SIGNALS}:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, AttributeError, ValueError):
                stream.flush()
        _end(code)


def told() -> None:
    """Note that a command has said what becomes of its work; no other line is printed then."""
    global _told
    _told = True


def exit_code(number: int) -> int:
    """Return the exit code that a shell reports for a command ended by a signal.

    >>> exit_code(signal.SIGINT), exit_code(signal.SIGTERM)
    (130, 143)
    """
    return 128 + number


def _leave(number: int, frame: FrameType | None) -> None:
    if _importing(frame):
        _end(exit_code(number))
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(exit_code(number))


def _importing(frame: FrameType | None) -> bool:
    """Tell whether a frame is inside of an import: torch's own calls Python from C++, where an exception aborts the process."""
    while frame is not None:
        if frame.f_code.co_filename == IMPORTLIB:
            return True
        frame = frame.f_back
    return False


def _watch(told: int, heeded: set[int]) -> None:
    number = 0
    while number not in heeded:
        number = os.read(told, 1)[0]
    select.select([told], [], [], GRACE)  # a second signal cuts the grace period short
    with contextlib.suppress(OSError, AttributeError, ValueError):
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), SHOW_CURSOR)
    _end(exit_code(number))


def _end(code: int) -> None:
    for work in _tidying:
        work()
    if not _told:
        with contextlib.suppress(OSError):
            os.write(2, b"interrupted\n" if code == exit_code(signal.SIGINT) else b"terminated\n")
    os._exit(code)


def _quiet(hook: Callable[[sys.UnraisableHookArgs], object]) -> Callable[[sys.UnraisableHookArgs], object]:
    """Return a hook that says nothing of a signal's exception in a place where it cannot be raised: the program ends anyway."""
    return lambda given: None if given.exc_type in (KeyboardInterrupt, SystemExit) else hook(given)
