"""What users may rely on: the exported names, the command line's options, the manifest's schema, the oldest files."""

import importlib
import json
from pathlib import Path

import pytest
import typer

from batteries import Cell, Manifest
from composer.artifact import MapsManifest, ModelManifest, VaeManifest
from registry.cli import app
from tests.support.cells import python, tiny
from tests.support.commands import every_command

GOLDEN = Path(__file__).parents[1] / "golden"
ROOT = Path(__file__).parents[2]


PUBLIC = json.loads((GOLDEN / "names.json").read_text())  # of packages, and of the modules in them that users import from


@pytest.mark.parametrize("package", PUBLIC)
def test_exported_names_are_sorted_there_and_frozen(package):
    module = importlib.import_module(package)
    assert list(module.__all__) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name).__doc__ or isinstance(getattr(module, name), tuple | float), f"{name} has no docstring"
    assert module.__all__ == PUBLIC[package]


def documented():
    """Every public function and class; a constant has no docstring, and a module's names have examples of their own."""
    everything = {f"{package}.{name}": (package, name) for package, names in PUBLIC.items() for name in names}
    values = {path: getattr(importlib.import_module(package), name) for path, (package, name) in everything.items()}
    return [pytest.param(value, id=path) for path, value in values.items() if callable(value)]


@pytest.mark.parametrize("value", documented())
def test_a_public_name_has_an_example_that_can_be_pasted(value):
    first = next((line.strip() for line in value.__doc__.splitlines() if line.strip().startswith(">>> ")), "no example")
    assert first.startswith((">>> import ", ">>> from ")), first


EVERYTHING = """
import importlib, pkgutil, types
import batteries, composer, registry
packages = (batteries, composer, registry)
def ask():
    return {f"{package.__name__}.{name}": getattr(package, name) for package in packages for name in package.__all__}
def load():
    for package in packages:
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            try:
                importlib.import_module(found.name)
            except ModuleNotFoundError as error:
                assert error.name in ("numba", "llvmlite"), error
FIRST
modules = {name for name, value in ask().items() if isinstance(value, types.ModuleType)}
assert modules == PUBLIC - {"batteries", "composer", "registry"}, modules
load()
assert {name for name, value in ask().items() if isinstance(value, types.ModuleType)} == modules
assert callable(composer.procrustes.fit) and callable(registry.cli.main)
from batteries import measure
assert callable(measure) and callable(composer.compose) and callable(batteries.images.load)
"""


@pytest.mark.parametrize("first", ["load()", "ask()"], ids=["modules first", "names first"])
@pytest.mark.slow
def test_no_module_takes_the_place_of_a_name(first):
    ran = python(EVERYTHING.replace("FIRST", first).replace("PUBLIC", repr({*PUBLIC})))
    assert ran.returncode == 0, ran.stderr


def options():
    """Every command with its parameters, as the command line shows them."""
    group = typer.main.get_command(app)
    return {
        name: sorted("/".join(p.opts) if p.param_type_name == "option" else p.name.upper() for p in command.params)
        for name, command in sorted(every_command(group).items())
    }


def test_the_command_lines_options_are_frozen():
    assert options() == json.loads((GOLDEN / "options.json").read_text())


def test_the_exported_schema_is_the_manifests():
    exported = json.loads((ROOT / "docs" / "schema" / "manifest-1.0.json").read_text())
    assert exported == Manifest.model_json_schema()


@pytest.mark.parametrize("kind", [ModelManifest, MapsManifest, VaeManifest])
def test_the_exported_schemas_are_those_of_the_other_manifests(kind):
    exported = json.loads((ROOT / "docs" / "schema" / f"{kind.KIND.name}-manifest-1.0.json").read_text())
    assert exported == kind.model_json_schema()


def test_a_cell_of_format_one_reads_and_writes_to_the_same_bytes():
    path = GOLDEN / "format-1.0" / "tiny.safetensors"
    cell = Cell.read(path)
    assert cell.to_bytes() == path.read_bytes()
    assert cell.manifest.to_bytes() == path.with_suffix(".json").read_bytes()
    assert cell.digest == tiny().digest
