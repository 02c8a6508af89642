"""Examples as modules, and the tables that they print."""

import importlib.util
import sys

from tests.support.cells import ROOT

EXAMPLES, RESULTS = ROOT / "examples", ROOT / "docs" / "results"


def example(name):
    """An example as a module; it finds its neighbours as it does when it runs."""
    found = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # where dataclasses look up their module
    sys.path.insert(0, str(EXAMPLES))
    try:
        found.loader.exec_module(module)
    finally:
        sys.path.remove(str(EXAMPLES))
    return module


def rows(text):
    """The cells of every row of a text's tables."""
    return [
        tuple(cell.strip() for cell in line.strip("| ").split(" | ")) for line in text.splitlines() if line.startswith("| ")
    ]
