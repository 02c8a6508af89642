"""The ``batteries`` program: its streams and signals are in hand before anything large is imported."""

from __future__ import annotations

import importlib
import os
import signal
import sys

from batteries import system
from batteries.errors import BatteriesError
from registry import interruption


def main() -> int:
    """Run the program; returns its exit code."""
    try:
        _fill_streams()
        interruption.install()
        system.refuse_others()
        code = int(importlib.import_module("registry.cli").main())  # which takes a third of a second
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
