"""The house: wings whose arrows run one way, no circle, no import hidden in a function, and numba in one wing of a package."""

import ast
from collections import Counter
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[2]
MOST_FILES = 14  # of a folder, without its __init__.py
# each row may import the rows above it, and no wing of its own row; a name without a folder is a file beside the wings
WINGS = {
    "batteries": [
        "arguments errors lookup text",
        "short_repr path_patterns",
        "io engine",
        "kernels network kept_documents",
        "cell",
        "images",
        "model geometry noise",
        "data",
        "measurement notebook",
        "readout",
        "training",
        "packaging ablation diagnostics",
        "__main__",
    ],
    "composer": [
        "vocabulary",
        "kernels sealed",
        "grids",
        "procrustes",
        "container",
        "hosts alignment",
        "audit credit",
        "wiring adaptation",
        "vae",
        "artifact encoding",
    ],
    "registry": [
        "catalog",
        "trust",
        "stores",
        "transfer",
        "answers",
        "adoption",
        "reports",
        "site checks",
        "viability",
        "cli",
    ],
}
PACKAGES = list(WINGS)  # each may import those before it
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
# imports by name, when a kernel is asked for: the name is a literal of the module that asks
LATER = {"batteries.kernels.jit", "batteries.cell.cell"}
CARD = ("batteries.cell.cell", "batteries.notebook")  # a cell as HTML, which is run for it: docs/decisions/0029
UP = {CARD}
COMPILERS = {"numba", "llvmlite"}


class House:
    """The modules below a folder, and what each imports of the others.

    An import counts whether it runs at once, in a function, or for a type checker alone; so does the name of a module that is
    given to a call, as in ``Kernels("batteries.kernels.jacobi", ...)``; and so does what is taken through the face of a package
    or of a wing (``batteries.HubRepository``): it is an arrow to the module that has it.
    """

    def __init__(self, root):
        self.paths = {}
        for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
            self.paths[path.relative_to(root).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")] = path
        self.folders = {name for name, path in self.paths.items() if path.stem == "__init__"}
        self.faces = {name: dict(face_of(self.paths[name].with_suffix(".pyi"), name)) for name in self.folders}
        self.trees = {name: ast.parse(path.read_text()) for name, path in self.paths.items()}
        self.arrows = {name: sorted(set(self._arrows_of(name, tree))) for name, tree in self.trees.items()}

    def module_of(self, dotted):
        """The module of ours that a dotted name is, or comes from; None for one of nobody's and for a bare package."""
        name = ""
        for part in dotted.split("."):
            whole = f"{name}.{part}".removeprefix(".")
            if name in self.folders and part in self.faces[name]:
                whole = self.faces[name][part]
            elif whole not in self.paths:
                break
            name = whole
        return name if name in self.paths and name not in self.folders else None

    def _arrows_of(self, module, tree):
        bound = {}  # local names of packages and wings of ours
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                bound |= {(a.asname or a.name).split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names}
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"relative import in {module}"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Attribute):
                first, _, rest = ast.unparse(node).partition(".")
                names = [f"{bound[first]}.{rest}"] if first in bound else []
            elif isinstance(node, ast.Call):
                names = [given.value for given in node.args if isinstance(given, ast.Constant) and given.value in self.paths]
            yield from (found for name in names if (found := self.module_of(name)) not in (None, module))


def face_of(stub, package):
    """Name and module of everything that a package hands on."""
    for node in ast.walk(ast.parse(stub.read_text())) if stub.exists() else ():
        if isinstance(node, ast.ImportFrom):
            below = f"{package}.{node.module}" if node.module else package
            for alias in node.names:
                yield alias.name, f"{below}.{alias.name}" if is_below(stub.parent, node.module, alias.name) else below


def is_below(folder, within, name):
    """Whether a face hands on a module, and not a name of one."""
    place = folder.joinpath(*(within or "").split("."), name)
    return place.is_dir() or place.with_suffix(".py").exists()


def wing_of(module):
    return module.split(".")[1]


def row_of(module):
    """Where in the house a module stands: the place of its package, and of its wing's row in that."""
    package, wing = module.split(".")[:2]
    rows = [place for place, row in enumerate(WINGS[package]) if wing in row.split()]
    assert rows, f"{package}/{wing} has no place in the table of wings"
    return PACKAGES.index(package), rows[0]


def wrong_arrows(house):
    """Arrows that run up, or across a row."""
    for module, found in house.arrows.items():
        if module not in house.folders:
            for target in found:
                same = module.split(".")[:2] == target.split(".")[:2] or (module, target) in UP
                if not same and row_of(target) >= row_of(module):
                    yield f"{module} imports {target}"


def circles(house):
    """Modules that import one another, and wings that do."""
    arrows = {(module, target) for module, found in house.arrows.items() for target in found}
    files = nx.DiGraph(sorted(arrows - UP))
    wings = nx.DiGraph((".".join(a.split(".")[:2]), ".".join(b.split(".")[:2])) for a, b in files.edges)
    wings.remove_edges_from(list(nx.selfloop_edges(wings)))
    return [sorted(part) for graph in (files, wings) for part in nx.strongly_connected_components(graph) if len(part) > 1]


def hidden_imports(house):
    """Imports of ours in functions."""
    for module, tree in house.trees.items():
        for function in (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)):
            for node in ast.walk(function):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) else []
                if any(name.split(".")[0] in PACKAGES for name in names):
                    yield f"{module} hides {ast.unparse(node)}"


def imports_of_compilers(house):
    """Modules outside of the wings of kernels that import numba or llvmlite."""
    for module, tree in house.trees.items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if {name.split(".")[0] for name in names} & COMPILERS and module.split(".")[1:2] != ["kernels"]:
                yield f"{module}: {ast.unparse(node)}"


def crowded(house):
    """Folders with too many files."""
    files = Counter(path.parent for path in house.paths.values() if path.stem != "__init__")
    return [folder.name for folder, count in files.items() if count > MOST_FILES]


def late_imports(house):
    """Calls that import by name, where they are not expected."""
    for module, tree in house.trees.items():
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        late = {call for call in calls if call.endswith(("import_module", "__import__", "LazyLoader", "lazy_loader.load"))}
        if late and module not in LATER:
            yield f"{module} calls {late}"


RULES = [wrong_arrows, circles, hidden_imports, imports_of_compilers, crowded, late_imports]


@pytest.fixture(scope="module")
def ours():
    return House(ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_our_house_keeps_the_rule(ours, rule):
    assert list(rule(ours)) == []


def test_every_wing_of_the_table_is_there(ours):
    wings = {package: {name.split(".")[1] for name in ours.paths if name.startswith(f"{package}.")} for package in PACKAGES}
    assert wings == {package: set(" ".join(rows).split()) for package, rows in WINGS.items()}


def test_the_program_is_outside_and_imports_nothing_of_ours_before_it_has_the_signals():
    tree = ast.parse((ROOT / "batteries_entry.py").read_text())
    first = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {"os", "signal", "sys", "types", "__future__"}  # Python has them from its own start, or within a millisecond
    assert {line.split()[1] for line in first} == names


def test_faces_are_short(ours):
    lines = {name: ours.paths[name].read_text().count("\n") for name in ours.folders}
    assert {name: count for name, count in lines.items() if count >= 15} == {}


def shadows(house):
    """Names that a face hands on and that a module beside it has too: an import of the module would replace the other."""
    for face, names in house.faces.items():
        for name, home in names.items():
            if f"{face}.{name}" in house.paths and home != f"{face}.{name}":
                yield f"{face}.{name}"


def test_no_public_name_shadows_a_module(ours):
    assert list(shadows(ours)) == []


def test_a_shadow_is_found(tmp_path):
    faces = {"batteries/cell/__init__.pyi": "from . import cell as cell\nfrom .cell import spec as spec\n"}
    assert list(shadows(build(tmp_path, {**SMALL, **faces}))) == ["batteries.cell.spec"]


SMALL = {
    "batteries/__init__.pyi": "from .cell.cell import Cell as Cell\nfrom .training.plan import Plan as Plan\n",
    "batteries/errors.py": "",
    "batteries/io/atomic_files.py": "import batteries.errors\n",
    "batteries/network/limits.py": "from batteries import errors\n",
    "batteries/kernels/jacobi.py": "import numba\n",
    "batteries/cell/spec.py": "from batteries.io import atomic_files\n",
    "batteries/cell/cell.py": "from batteries.cell.spec import CellSpec\nfrom batteries.network import limits\n",
    "batteries/training/plan.py": "from batteries import Cell\n",
    "composer/container/container.py": "import batteries\n\nCELL = batteries.Cell\n",
}
PLANTED = {
    "up between wings": (wrong_arrows, "batteries/cell/spec.py", "from batteries.training import plan\n"),
    "up between packages": (wrong_arrows, "batteries/training/plan.py", "from composer.container import container\n"),
    "across a row": (wrong_arrows, "batteries/network/limits.py", "import batteries.kernels.jacobi\n"),
    "by name": (wrong_arrows, "batteries/errors.py", "KERNELS = Kernels('batteries.kernels.jacobi')\n"),
    "through a face": (wrong_arrows, "batteries/io/atomic_files.py", "import batteries\n\nCELL = batteries.Cell\n"),
    "from a face": (wrong_arrows, "batteries/cell/cell.py", "from batteries import Plan\n"),
    "for types": (wrong_arrows, "batteries/errors.py", "if TYPE_CHECKING:\n    from batteries.cell.cell import Cell\n"),
    "in a function": (hidden_imports, "batteries/cell/cell.py", "def f():\n    from batteries.cell import spec\n"),
    "up, in a function": (wrong_arrows, "batteries/errors.py", "def f():\n    from batteries.cell import spec\n"),
    "a circle of files": (circles, "batteries/cell/spec.py", "from batteries.cell.cell import Cell\n"),
    "a circle for types": (circles, "batteries/cell/spec.py", "if TYPE_CHECKING:\n    from batteries import Cell\n"),
    "a circle of wings": (circles, "batteries/network/limits.py", "from batteries.cell import spec\n"),
    "numba": (imports_of_compilers, "batteries/cell/spec.py", "def f():\n    from numba import njit\n"),
    "llvmlite": (imports_of_compilers, "composer/container/container.py", "import llvmlite.ir\n"),
    "by a loader": (late_imports, "batteries/cell/spec.py", "importlib.import_module('json')\n"),
}


def build(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for folder in path.relative_to(root).parents[:-1]:
            (root / folder / "__init__.py").touch()
    return House(root)


def test_a_small_house_keeps_every_rule(tmp_path):
    house = build(tmp_path, SMALL)
    assert {rule.__name__: list(rule(house)) for rule in RULES} == {rule.__name__: [] for rule in RULES}
    assert house.arrows["composer.container.container"] == ["batteries.cell.cell"]
    assert house.arrows["batteries.training.plan"] == ["batteries.cell.cell"]


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_planted_is_found(tmp_path, planted):
    rule, place, line = PLANTED[planted]
    assert list(rule(build(tmp_path, {**SMALL, place: line + SMALL[place]})))


def test_a_fifteenth_file_is_found(tmp_path):
    files = {f"batteries/cell/more{number}.py": "" for number in range(MOST_FILES - 2)}
    assert crowded(build(tmp_path, {**SMALL, **files})) == []
    assert crowded(build(tmp_path, {"batteries/cell/one_more.py": ""})) == ["cell"]


def test_a_wing_without_a_row_is_found(tmp_path):
    with pytest.raises(AssertionError, match="no place in the table"):
        list(wrong_arrows(build(tmp_path, {**SMALL, "batteries/misc/many.py": "from batteries import errors\n"})))
