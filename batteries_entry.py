"""The ``batteries`` program. Signal handlers and streams are set up before anything is imported that takes time."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def main() -> int:
    """Run the program and return its exit code."""
    try:
        _leave_at_once_on_signals()
        code = _run()
        _leave_at_once_on_signals()  # an exception while Python shuts down would be a traceback
    except KeyboardInterrupt:  # while handlers were being set
        _leave(signal.SIGINT, None)
        raise
    return code


def _leave_at_once_on_signals() -> None:
    """End the process with one line on a signal, for as long as there is nothing to clean up."""
    for number in SIGNALS:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n" if number == signal.SIGINT else b"terminated\n")
    os._exit(128 + number)


def _run() -> int:
    _fill_streams()
    import importlib

    from batteries.errors import BatteriesError
    from batteries.io import operating_system
    from registry.cli.terminal import interruption

    try:
        operating_system.refuse_others()
        _load_torch_from_a_folder()
        program = importlib.import_module("registry.cli.program")  # this import takes a third of a second
        interruption.install()
        code = int(program.main())
    except KeyboardInterrupt:
        code = interruption.exit_code(signal.SIGINT)
    except SystemExit as end:  # of a signal outside of a command
        code = end.code if isinstance(end.code, int) else 1
    except BatteriesError as error:
        sys.stderr.write(f"error: {error}\n")
        code = error.exit_code
    interruption.end_if_signalled(code)
    return code


def _fill_streams() -> None:
    """Open standard streams that the parent process closed; otherwise a library's output could go to the next file opened."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _load_torch_from_a_folder() -> None:
    """Import torch from ``/`` if the working directory no longer exists, because MKL ends the process there.

    The working directory is restored afterwards, so that relative paths keep their meaning.
    """
    try:
        os.getcwd()  # noqa: PTH109 - Path.cwd() calls it too
    except FileNotFoundError:
        from batteries.engine import processors

        gone = os.open(".", os.O_RDONLY)
        try:
            os.chdir("/")
            processors.settle_openmp()
            __import__("torch")
            os.fchdir(gone)
        finally:
            os.close(gone)
