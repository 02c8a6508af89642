"""A kind of artifact is a folder and a row: one that the package does not know can do what models and maps do."""

import ast

import pytest

from tests.support.cells import ROOT, python

FOLDERS = ("composer/artifact/model/", "composer/artifact/maps/", "composer/artifact/vae/")
CODE = """
import sys
from pathlib import Path
import composer
from tests.support.toy.form import NoteForm
composer.artifact.kinds.FORMS["note"] = NoteForm()  # the row
from tests.support.toy.everything import run
run(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_fourth_kind_is_saved_published_listed_pulled_mirrored_and_locked(tmp_path):
    done = python(CODE, tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.slow
def test_no_kind_is_named_outside_of_its_folder():
    """Where a kind is named, a fourth would have to be named, too: only by the table, and by the commands that make one."""
    names = {"MODEL", "MAPS", "ModelManifest", "MapsManifest", "ModelSummary", "MapsSummary", "SavedMaps", "Artifact"}
    names |= {"VAE", "VaeManifest", "VaeSummary", "SavedVae"}
    makers = {
        "registry/cli/compose.py",
        "registry/cli/align.py",
        "registry/adoption/array_model.py",
        "registry/adoption/measured_rows.py",
        "registry/answers/composition.py",
        "registry/answers/alignment.py",
        "registry/cli/vae.py",
        "registry/answers/vae.py",
    }
    found = set()
    for package in ("batteries", "composer", "registry"):
        for path in (ROOT / package).rglob("*.py"):
            used = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
            place = path.relative_to(ROOT).as_posix()
            if used & names and not place.startswith(FOLDERS):
                found.add(place)
    assert found <= makers
