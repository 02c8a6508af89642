"""A column of a progress bar with names of files and cells; imported when a bar is shown, since rich takes time."""

from __future__ import annotations

from rich.progress import ProgressColumn, Task
from rich.text import Text

from batteries.text import plain


class PlainColumn(ProgressColumn):
    """Words of a task in one line, without effect of markup and control characters in them.

    Args:
        field: Field of the task in place of its description.
    """

    def __init__(self, field: str | None = None) -> None:
        super().__init__()
        self._field = field

    def render(self, task: Task) -> Text:
        """Return the words of a task."""
        words = task.description if self._field is None else str(task.fields[self._field])
        return Text(" ".join(plain(words).splitlines()))
