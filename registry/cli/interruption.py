"""Signals that end a command: within about a second, whatever it waits for, with the exit code that a shell expects.

The first one raises, so that what is under way is tidied up. Not everything can be interrupted by that: a thread in a transfer,
a look-up of a name, a long calculation. So another thread is told of the signal too, and ends the process a moment later.
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
SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it

_tidying: list[Callable[[], None]] = []
_installed = False


def install() -> None:
    """Take charge of the signals of this process. Those that it was started to ignore, as by ``nohup``, stay ignored."""
    global _installed
    if _installed or threading.current_thread() is not threading.main_thread():
        return
    _installed = True
    heeded = {number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)}
    for number in heeded - {signal.SIGINT}:  # that one raises KeyboardInterrupt by itself
        signal.signal(number, _leave)
    told, telling = os.pipe()
    os.set_blocking(telling, False)
    signal.set_wakeup_fd(telling, warn_on_full_buffer=False)
    with contextlib.suppress(RuntimeError):  # no room for a thread: signals end the command as soon as Python looks at them
        threading.Thread(target=_watch, args=(told, heeded), name="batteries-signals", daemon=True).start()


def tidy_with(work: Callable[[], None]) -> None:
    """Have something done before the process is ended from outside of what it does."""
    if work not in _tidying:
        _tidying.append(work)


def end_if_signalled(code: int) -> None:
    """End the process at once, where this is the exit code of a signal: to unload torch alone takes two seconds."""
    if _installed and code in {exit_code(number) for number in SIGNALS}:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, AttributeError, ValueError):
                stream.flush()
        _end(code)


def exit_code(number: int) -> int:
    """What a shell says of a command that a signal ended.

    >>> exit_code(signal.SIGINT), exit_code(signal.SIGTERM)
    (130, 143)
    """
    return 128 + number


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(exit_code(number))


def _watch(told: int, heeded: set[int]) -> None:
    number = 0
    while number not in heeded:
        number = os.read(told, 1)[0]
    select.select([told], [], [], GRACE)  # a second signal: it was waited long enough
    with contextlib.suppress(OSError, AttributeError, ValueError):
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), SHOW_CURSOR)
    _end(exit_code(number))


def _end(code: int) -> None:
    for work in _tidying:
        work()
    os._exit(code)
