"""Tutorials: scripts of cells (``# %%``), run as they are, and written as notebooks with what they printed.

A cell of Markdown is ``# %% [markdown]``, one of the shell ``# %% [bash]``, both commented out; the rest is Python. The
notebook has the same cells, those of the shell as ``%%bash``.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "docs" / "tutorials"
MARK = re.compile(r"^# %%(?: \[(markdown|bash)\])?\n", re.M)
BASH = "%%bash\n"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
Output = dict[str, Any]


@dataclass(frozen=True)
class TutorialCell:
    """Cell of a tutorial.

    Attributes:
        kind: ``markdown``, ``bash`` or ``python``.
        text: Text without comment signs.
    """

    kind: str
    text: str


def cells(script: str) -> list[TutorialCell]:
    r"""Split a script into its cells.

    >>> cells("# %% [markdown]\n# # Title\n# %%\n1 + 1\n")
    [TutorialCell(kind='markdown', text='# Title'), TutorialCell(kind='python', text='1 + 1')]
    """
    _, *parts = MARK.split(script)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [TutorialCell(kind or "python", _uncommented(text) if kind else text.strip()) for kind, text in pairs]


def _uncommented(text: str) -> str:
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in text.strip().splitlines())


def scripts() -> list[Path]:
    """Return the tutorials in their order."""
    return sorted(FOLDER.glob("*.py"))


def run(path: Path, told: Callable[[TutorialCell], None] = lambda cell: None) -> list[list[Output]]:
    """Run a tutorial in the current folder.

    Args:
        path: Script of the tutorial.
        told: Called with each cell before it runs.

    Returns:
        Outputs of each cell, as in a notebook; none of Markdown.

    Raises:
        subprocess.CalledProcessError: If a command of the shell fails.
        Exception: Any that a cell raises.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    found = []
    for cell in cells(path.read_text()):
        told(cell)
        found.append([*RUNNERS[cell.kind](cell.text, names)])
    return found


def _run_bash(text: str, names: dict[str, Any]) -> Iterator[Output]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(["bash", "-euc", text], env={**os.environ, "PATH": path}, capture_output=True, text=True)
    if ran.returncode:
        raise subprocess.CalledProcessError(ran.returncode, text, ran.stdout, ran.stderr)
    yield from _printed(ran.stdout)


def _run_python(text: str, names: dict[str, Any]) -> Iterator[Output]:
    """Run a cell; the value of an expression at its end is shown, as in a notebook."""
    tree = ast.parse(text)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "tutorial", "exec"), names)  # noqa: S102  # our own scripts
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "tutorial", "eval"), names)  # noqa: S307
    yield from _printed(printed.getvalue())
    if value is not None:
        yield {"output_type": "execute_result", "data": _data(value), "metadata": {}}


def _printed(text: str) -> Iterator[Output]:
    if text:
        yield {"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}


def _data(value: Any) -> dict[str, Any]:
    """Return a picture, or what a prompt prints."""
    if hasattr(value, "_repr_png_"):
        return {"image/png": base64.b64encode(value._repr_png_()).decode(), "text/plain": ["picture"]}
    return {"text/plain": repr(value).splitlines(keepends=True)}


RUNNERS: dict[str, Callable[[str, dict[str, Any]], Iterator[Output]]] = {
    "markdown": lambda text, names: iter(()),
    "bash": _run_bash,
    "python": _run_python,
}


def notebook(script: str, outputs: list[list[Output]] | None = None, seconds: float | None = None) -> dict[str, Any]:
    """Return the notebook of a script, of nbformat 4.5.

    Args:
        script: Text of the tutorial.
        outputs: Outputs of each cell; none by default.
        seconds: Processor time of the run, kept in the metadata.
    """
    of_cells = cells(script)
    found = [_cell(number, *pair) for number, pair in enumerate(zip(of_cells, outputs or [[] for _ in of_cells], strict=True))]
    ran = {} if seconds is None else {"processor_seconds": round(seconds)}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": KERNEL, **ran}, "cells": found}


def _cell(number: int, cell: TutorialCell, outputs: list[Output]) -> dict[str, Any]:
    text = (BASH if cell.kind == "bash" else "") + cell.text
    shown = {"id": f"cell-{number}", "metadata": {}, "source": text.splitlines(keepends=True)}
    if cell.kind == "markdown":
        return {"cell_type": "markdown", **shown}
    counted = [{**one, "execution_count": number} if one["output_type"] == "execute_result" else one for one in outputs]
    return {"cell_type": "code", "execution_count": number, "outputs": counted, **shown}


def write(path: Path, outputs: list[list[Output]], seconds: float) -> Path:
    """Write the notebook of a script beside it."""
    written = path.with_suffix(".ipynb")
    text = json.dumps(notebook(path.read_text(), outputs, seconds), indent=1, ensure_ascii=False)
    written.write_text(text + "\n")
    return written


def markdown(text: str, page: str) -> str:
    """Return the page of a notebook: its Markdown, its code, and what the code printed.

    Args:
        text: Contents of the notebook.
        page: Name of the page, ``tutorials/NAME``.
    """
    found = json.loads(text)
    title, *rest = found["cells"]
    head, heading, start = "".join(title["source"]).partition("\n\n## ")
    name = page.rpartition("/")[2]
    note = f"As a file: [notebook]({name}.ipynb), [script]({name}.py)."
    if seconds := found["metadata"].get("processor_seconds"):
        where = f"in an empty folder with an empty cache (`python -m manual notebooks {name}`)"
        note = f"It takes {seconds} s of one core, {where}. {note}"
    return "\n\n".join((head, note + heading + start, *(part for cell in rest for part in _parts(cell)))) + "\n"


def _parts(cell: dict[str, Any]) -> Iterator[str]:
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield text
        return
    yield _fenced("bash", text.removeprefix(BASH)) if text.startswith(BASH) else _fenced("python", text)
    for output in cell["outputs"]:
        data = output.get("data", {"text/plain": output.get("text")})
        if "image/png" in data:
            yield f"![Output of the code above](data:image/png;base64,{data['image/png']})"
        else:
            yield _fenced("text", "".join(data["text/plain"]).rstrip())


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"
