"""Sphinx extension: pages whose text is made while they are read, and nothing of it is kept among the sources.

In a page of ``reference``, a comment ``<!-- public names of MODULE -->`` or ``<!-- commands -->`` stands for what is made. A
notebook is the source of its tutorial.
"""

from __future__ import annotations

import re
from typing import Any

from manual import commands, names, notebooks

NAMES = re.compile(r"<!-- public names of ([\w.]+) -->")
COMMANDS = "<!-- commands -->"


def fill(app: Any, page: str, source: list[str]) -> None:
    """Replace the source of a page, as Sphinx asks for it after reading the file."""
    if page.startswith("tutorials/") and source[0].lstrip().startswith("{"):
        source[0] = notebooks.markdown(source[0], page)
    elif not page.startswith("reference/"):
        return
    elif found := NAMES.search(source[0]):
        source[0] = NAMES.sub(lambda _: f"```{{eval-rst}}\n{names.page(found[1])}```", source[0])
    elif COMMANDS in source[0]:
        source[0] = source[0].replace(COMMANDS, commands.page())


def setup(app: Any) -> dict[str, bool]:
    """Register the extension."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
