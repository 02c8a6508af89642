"""Entry point of the ``batteries`` command, which imports every module of commands."""

from __future__ import annotations

from collections.abc import Sequence

from batteries.io import atomic_files
from registry.cli import adopt, align, browse  # in the order of their commands in the help

# isort: split
from registry.cli import transfer

# isort: split
from registry.cli import ablate, adapt, compose, encode, maintenance, site, train, vae, validate
from registry.cli.diagnostics import compare, diagnose, inspect
from registry.cli.keys import key
from registry.cli.terminal import interruption
from registry.cli.terminal.console import app, run

__all__ = [
    "ablate",
    "adapt",
    "adopt",
    "align",
    "app",
    "browse",
    "compare",
    "compose",
    "diagnose",
    "encode",
    "inspect",
    "key",
    "main",
    "maintenance",
    "run",
    "site",
    "train",
    "transfer",
    "vae",
    "validate",
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the ``batteries`` command.

    Args:
        arguments: Command line without the program's name; None for that of the process, whose signals are then handled.

    Returns:
        The exit code.
    """
    if arguments is None:
        interruption.install()
        interruption.tidy_with(atomic_files.give_up)
    return run(arguments)
