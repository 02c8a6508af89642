"""A column of a progress bar with names of files and cells, on which markup and control characters have no effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batteries.text import plain

if TYPE_CHECKING:
    from rich.progress import ProgressColumn


class _PlainFormat(str):
    """A template whose result is plain text in one line."""

    def format(self, *values: Any, **names: Any) -> str:
        """Fill in values."""
        return " ".join(plain(super().format(*values, **names)).splitlines())


def plain_column(template: str = "{task.description}") -> ProgressColumn:
    """Return a column of a task's words.

    Args:
        template: Words, with fields of the task.
    """
    from rich.progress import TextColumn  # rich takes time, and is imported when a bar is shown

    return TextColumn(_PlainFormat(template), markup=False)
