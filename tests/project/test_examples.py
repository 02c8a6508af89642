"""Examples in docstrings hold whatever numbers they draw: an interpreter begins with a seed that nobody chose."""

import ast
import doctest
import re
from pathlib import Path

import pytest
import torch

from tests.support.soak import many

ROOT = Path(__file__).parents[2]
DRAWS = re.compile(r"\.rand(n|int|perm)?\(|\.normal\(|nn\.[A-Z]|hosts\.[A-Z]|PatchSVAE\(")
SLOW = re.compile(r"\badapt\(")  # seconds a piece: under make soak


def drawing():
    """Docstrings whose examples draw numbers and set no seed, with their places."""
    for package in ("batteries", "composer", "registry", "manual"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                text = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
                if text and draws("".join(example.source for example in doctest.DocTestParser().get_examples(text))):
                    yield f"{path.relative_to(ROOT)}:{getattr(node, 'name', '')}", text


def draws(source):
    return DRAWS.search(source) and not re.search(r"seed|generator", source) and (many(0, 1) or not SLOW.search(source))


def fault(text, seed):
    """What the examples of a docstring say of themselves with a seed; empty if they hold."""
    torch.manual_seed(seed)
    said = []
    test = doctest.DocTestParser().get_doctest(text, {"__name__": "example"}, "example", None, None)
    doctest.DocTestRunner().run(test, out=said.append)
    return "".join(said)


@pytest.mark.slow
def test_examples_that_set_no_seed_hold_under_any(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = dict(drawing())
    assert len(found) > 20
    faults = {(place, seed): fault(text, seed) for place, text in found.items() for seed in range(1, many(4, 100))}
    assert not {key: said for key, said in faults.items() if said}


def test_an_example_that_holds_by_chance_is_found():
    text = ">>> import torch\n>>> bool(torch.rand(()) < 0.5)\nTrue\n"
    assert {fault(text, seed) == "" for seed in range(20)} == {True, False}
