"""The ``batteries`` program. Streams and signal handlers are set up before anything large is imported."""

from __future__ import annotations

import importlib
import os
import signal
import sys

from batteries.engine import processors
from batteries.errors import BatteriesError
from batteries.io import operating_system
from registry.cli.terminal import interruption


def main() -> int:
    """Run the program and return its exit code."""
    try:
        _fill_streams()
        interruption.install()
        operating_system.refuse_others()
        _load_torch_from_a_folder()
        code = int(importlib.import_module("registry.cli.program").main())  # this import takes a third of a second
    except KeyboardInterrupt:
        code = interruption.exit_code(signal.SIGINT)
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
        gone = os.open(".", os.O_RDONLY)
        try:
            os.chdir("/")
            processors.settle_openmp()
            importlib.import_module("torch")
            os.fchdir(gone)
        finally:
            os.close(gone)
