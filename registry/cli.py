"""The ``batteries`` command: every module of commands, and the entry point."""

from __future__ import annotations

from collections.abc import Sequence

from batteries.io import atomic_files
from registry import adopting, aligning, commands, composing, custody, interruption, workbench
from registry.console import app, emit, emit_json, emit_row, run, say

__all__ = [
    "adopting",
    "aligning",
    "app",
    "commands",
    "composing",
    "custody",
    "emit",
    "emit_json",
    "emit_row",
    "main",
    "run",
    "say",
    "workbench",
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``batteries``.

    Args:
        arguments: Without the program's name; left out, those of the process, which then ends where a signal asks it to.

    Returns:
        The exit code.
    """
    if arguments is None:
        interruption.install()
        interruption.tidy_with(atomic_files.give_up)
    return run(arguments)
