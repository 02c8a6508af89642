"""Every ``pytest.raises`` of the tests says which error it wants: by a match, or by what is asserted of the caught one."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = sorted(TESTS.rglob("*.py"))


def bare(tree):
    """Lines of the calls that take any error of a type."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            read = {ast.unparse(node) for node in ast.walk(function) if isinstance(node, ast.Attribute)}
            named = {
                item.context_expr: f"{ast.unparse(item.optional_vars)}.value"
                for node in ast.walk(function)
                if isinstance(node, ast.With | ast.AsyncWith)
                for item in node.items
                if item.optional_vars
            }
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and ast.unparse(call.func) in ("pytest.raises", "raises"):
                    matched = any(keyword.arg in ("match", "check") for keyword in call.keywords)
                    if not matched and named.get(call) not in read:
                        yield call.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_error_is_taken_for_another(path):
    assert list(bare(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("with pytest.raises(E): f()", True),
        ("with pytest.raises((E, F)), g(): f()", True),
        ("with pytest.raises(E) as caught: f()", True),
        ("pytest.raises(E, f)", True),
        ("with g(), pytest.raises(E, match='x'): f()", False),
        ("with pytest.raises(E) as caught: f()\n    assert caught.value.code == 'X'", False),
    ],
)
def test_a_bare_one_is_found(line, found):
    assert bool([*bare(ast.parse(f"def test():\n    {line}\n"))]) is found
