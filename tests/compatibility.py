"""The rows of docs/compatibility.md, each read from the test that shows it.

A test that tries a tool or a setting says so by :func:`works` or :func:`refused`; the page is written from those lines with
``python -m tests.compatibility`` and compared with them by ``test_compatibility.py``. A row without a test cannot be.
"""

import ast
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
AREAS = ("Installation", "torch", "Hosts and their state", "Images", "Disks and systems", "Hub and locks", "Threads")
HEAD = """# What it works with

Each row was tried by the test beside it, which runs with `make test`; none is from memory. *Works* means the answer is the
same as without the tool or setting. A refusal is an error of `batteries.errors` with the code shown, before anything is
computed or written. Written by `python -m tests.compatibility`.
"""


def works(area, what, note=""):
    """Mark a test that shows a tool or setting to work."""
    return pytest.mark.compatibility(area, what, "works", note)


def refused(area, what, code, note=""):
    """Mark a test that shows a tool or setting to be refused by an error of this code."""
    return pytest.mark.compatibility(area, what, code, note)


@dataclass(frozen=True)
class Row:
    """A line of the page."""

    area: str
    what: str
    answer: str
    note: str
    test: str


def rows_of(path):
    """The rows of one file of tests, read from its text."""
    for node in ast.walk(ast.parse(path.read_text())):
        for decorator in getattr(node, "decorator_list", []):
            call = isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name)
            if not (call and decorator.func.id in {"works", "refused"}):
                continue
            given = [ast.literal_eval(argument) for argument in decorator.args]
            given += [ast.literal_eval(keyword.value) for keyword in decorator.keywords]
            area, what, *more = given
            answer = "works" if decorator.func.id == "works" else f"refused: `{more.pop(0)}`"
            yield Row(area, what, answer, "".join(more), f"{path.relative_to(ROOT)}::{node.name}")


def rows():
    """All rows, by area and in the order of the alphabet."""
    found = [row for path in (ROOT / "tests").rglob("test_*.py") for row in rows_of(path)]
    return sorted(found, key=lambda row: (AREAS.index(row.area), row.what.lower()))


def page():
    """The text of docs/compatibility.md."""
    text = HEAD
    for area, found in groupby(rows(), key=lambda row: row.area):
        text += f"\n## {area}\n\n| tried | answer | remark | test |\n|---|---|---|---|\n"
        text += "".join(f"| {row.what} | {row.answer} | {row.note} | `{row.test}` |\n" for row in found)
    return text


if __name__ == "__main__":
    PAGE.write_text(page())
