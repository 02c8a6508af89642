"""The ``batteries`` program: its streams and signals are in hand before anything large is imported."""

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
    """Run the program; returns its exit code."""
    try:
        _fill_streams()
        interruption.install()
        operating_system.refuse_others()
        _load_torch_from_a_folder()
        code = int(importlib.import_module("registry.cli.program").main())  # which takes a third of a second
    except KeyboardInterrupt:
        code = interruption.exit_code(signal.SIGINT)
    except BatteriesError as error:
        sys.stderr.write(f"error: {error}\n")
        code = error.exit_code
    interruption.end_if_signalled(code)
    return code


def _fill_streams() -> None:
    """Open what was closed by who started this program: else the next file to be opened would be what a library writes to."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _load_torch_from_a_folder() -> None:
    """Load torch from another folder where the working directory is gone; in a folder that is gone MKL ends the process.

    The process comes back to where it was: a relative path must not mean another file.
    """
    try:
        os.getcwd()  # noqa: PTH109 - Path.cwd() asks the same
    except FileNotFoundError:
        gone = os.open(".", os.O_RDONLY)
        try:
            os.chdir("/")
            processors.settle_openmp()
            importlib.import_module("torch")
            os.fchdir(gone)
        finally:
            os.close(gone)
