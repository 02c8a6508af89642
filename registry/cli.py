"""The ``batteries`` command: every module of commands, and the entry point."""

from __future__ import annotations

from collections.abc import Sequence

from registry import adopting, aligning, commands, composing, custody, workbench
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
        arguments: Without the program's name; left out, those of the process.

    Returns:
        The exit code.
    """
    return run(arguments)
