"""Plain technical English: summaries, entries of parameters and error messages that a stranger reads without the rest.

``python -m tests.project.test_prose [PATH ...]`` prints every place that breaks a rule, and how many there are.
"""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("batteries", "composer", "registry", "benchmarks", "examples", "manual", "batteries_entry.py")
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "docs")

CLAUSE = re.compile(r"(What|Who|Whom|Whose|Whoever|Whatever|Whether|Where|How|Which|When|Why)\b")
SECTION = re.compile(r"\s*(Args|Attributes|Returns|Yields|Raises|Parameters):\s*$")
RESULT = ("Returns", "Yields")
NAMED = re.compile(r"\s*(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*)(?: \([^)]*\))?:\s+(.*)")
LEANS = re.compile(
    r"(Of|As of|Theirs|Likewise|The same|Ours|Its|It|Them|They|Those|These|This|That|One|Ones|As|Ditto|See"
    r"|What|Who|Whom|Whose|Whoever|Whatever|Where|How|Which|When|Why)\b"
)
NOBODY = re.compile(r"\b(some|no|any|every)body('s)?\b|\b(who|whom|what|which)(so)?ever\b|\bsomeone('s)?\b", re.IGNORECASE)
OPENING = re.compile(
    r"(A|An|The|This|These|That|Those|Other|Another|What|Who|Whose|Which|Where|How|We|You|It|Its|Of|There)\b", re.IGNORECASE
)


def entries(docstring):
    """Texts of the parameters, attributes, results and errors of a docstring in Google's style."""
    section, indent = None, 0
    for line in docstring.splitlines():
        if heading := SECTION.match(line):
            section, indent = heading[1], None
        elif section and line.strip():
            depth = len(line) - len(line.lstrip())
            indent = depth if indent is None else indent
            if depth < indent:
                section = None
            elif depth == indent and (entry := NAMED.match(line)) and section not in RESULT:
                yield entry[2]
            elif depth == indent and section in RESULT:
                yield line.strip()
                section = None


def constant(node):
    """The text of a string or of an f-string, each value in it as ``{}``; None for what is computed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def messages(call):
    """First clauses of an error: a call with ``code=`` and a text before it."""
    if any(keyword.arg == "code" for keyword in call.keywords):
        for value in call.args[:1]:
            branches = (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,)
            yield from filter(None, map(constant, branches))


def helps(call):
    """Descriptions of options and fields."""
    yield from (
        text for keyword in call.keywords if keyword.arg in ("help", "description") if (text := constant(keyword.value))
    )


def faults(source):
    """Every place of a module that breaks a rule, as (line, rule, text)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node) or ""
            line = node.body[0].lineno if docstring else 0
            if CLAUSE.match(docstring):
                yield line, "summary", docstring.splitlines()[0]
            yield from ((line, "entry", text) for text in entries(docstring) if LEANS.match(text))
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, "entry", text) for text in helps(node) if LEANS.match(text))
            yield from (
                (node.lineno, "message", text) for text in messages(node) if OPENING.match(text) or text.endswith((".", "!"))
            )
    yield from words(source)


def words(text):
    """Lines with a pronoun for nobody in particular."""
    yield from ((number, "word", line.strip()) for number, line in enumerate(text.splitlines(), 1) if NOBODY.search(line))


def files(names=(*CODE, *PAGES)):
    for name in names:
        path = ROOT / name
        yield from [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.suffix in (".py", ".pyi", ".md"))


def found(path):
    text = path.read_text()
    return [*(faults(text) if path.suffix in (".py", ".pyi") else words(text))]


@pytest.mark.parametrize("path", [*files()], ids=lambda path: str(path.relative_to(ROOT)))
def test_words_are_plain(path):
    assert found(path) == []


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ('"""What a cell is."""', "summary"),
        ('def f():\n    """Whether it holds."""', "summary"),
        ('def f(x):\n    """Measure.\n\n    Args:\n        x: Theirs.\n    """', "entry"),
        ('def f(x):\n    """Measure.\n\n    Args:\n        x (int, optional): Of them.\n    """', "entry"),
        ('def f(x):\n    """Measure.\n\n    Returns:\n        Likewise.\n    """', "entry"),
        ('def f(x):\n    """Measure.\n\n    Raises:\n        InputError: The same.\n    """', "entry"),
        ('x = Field(description="As of then.")', "entry"),
        ('raise InputError("other bytes", code="X")', "message"),
        ('raise InputError(f"{name} is wrong.", code="X")', "message"),
        ('raise InputError("a" if x else "fine", code="X")', "message"),
        ("x = 1  # whoever asks", "word"),
    ],
)
def test_a_fault_of_each_sort_is_found(source, rule):
    assert [kind for _, kind, _ in faults(source)] == [rule]


def test_plain_words_are_taken():
    source = '''
    """Measures of a cell."""
    def f(x, y):
        """Measure the spread.

        Args:
            x: Rows (..., V, D).
            y: Cell specs, one per group,
                as in the manifest.

        Returns:
            Rows on the unit sphere.
        """
        raise InputError("digest mismatch", code="DIGEST")
    '''
    assert [*faults("\n".join(line[4:] for line in source.splitlines()))] == []


if __name__ == "__main__":
    rows = [(path.relative_to(ROOT), *row) for path in files(sys.argv[1:] or (*CODE, *PAGES)) for row in found(path)]
    print(*(f"{path}:{line}: {rule}: {text}" for path, line, rule, text in rows), f"{len(rows)} places", sep="\n")
