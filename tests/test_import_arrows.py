"""The house: arrows run one way, no circle, and no import hidden in a function."""

import ast
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
ALLOWED = {"batteries": {"batteries"}, "composer": {"batteries", "composer"}, "registry": {"batteries", "composer", "registry"}}
MODULES = sorted(path for package in ALLOWED for path in (ROOT / package).rglob("*.py"))


def name_of(path):
    return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")


NAMES = {name for path in MODULES if "." in (name := name_of(path))}


DOOR = "registry.entry"  # the program: it takes its signals in hand before it imports anything large
LATER = {
    "batteries.compiled",
    DOOR,
}  # imports by name, when a kernel is asked for: the name is a literal of the module that asks


def own_imports(path):
    """(imported module, whether at module level) of every import of our own packages that runs, now or later.

    A call that is given the name of a module of ours, as ``Kernels("batteries.modes", ...)``, imports it later.
    """
    tree = ast.parse(path.read_text())
    hidden = {id(child) for node in ast.walk(tree) if isinstance(node, FUNCTIONS) for child in ast.walk(node)}
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call):
            names = [given.value for given in node.args if isinstance(given, ast.Constant) and given.value in NAMES]
        for name in names:
            if name.split(".")[0] in ALLOWED and id(node) not in typing_only:
                yield name, id(node) not in hidden


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_run_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    for name, at_module_level in own_imports(path):
        assert name.split(".")[0] in ALLOWED[package], f"{name_of(path)} imports {name}"
        assert at_module_level or name_of(path) == DOOR, f"{name_of(path)} hides the import of {name} in a function"


@pytest.mark.slow
def test_there_is_no_circle():
    known = {name_of(path): path for path in MODULES}
    graph = nx.DiGraph((module, name) for module, path in known.items() for name, _ in own_imports(path) if name in known)
    circles = list(nx.simple_cycles(graph))
    assert circles == []


def test_the_walk_finds_a_wrong_arrow(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import registry.cli\ndef f():\n    from composer import compose\n")
    assert list(own_imports(wrong)) == [("registry.cli", True), ("composer", False), ("composer.compose", False)]


def test_the_walk_finds_what_is_imported_later(tmp_path):
    later = tmp_path / "later.py"
    later.write_text("kernels = Kernels('composer.softmax')\ndef f():\n    return load('registry.cli')\n")
    assert list(own_imports(later)) == [("composer.softmax", True), ("registry.cli", False)]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_else_is_imported_by_name(path):
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
    late = {call for call in calls if call.endswith(("import_module", "__import__", "LazyLoader", "lazy_loader.load"))}
    assert not late or name_of(path) in LATER, f"{name_of(path)} calls {late}"
