"""Tutorials run as they stand, in an empty folder and home, without a network; notebooks are what their scripts are."""

import json
import socket
import subprocess

import pytest

import registry
from manual import notebooks
from manual.notebooks import TutorialCell, cells, notebook
from tests.support.hubserver import QUIET
from tests.support.viability import TEST, few

SCRIPTS = notebooks.scripts()
LOCAL = ("127.0.0.1", "localhost", "::1")


@pytest.fixture
def no_network(monkeypatch):
    """Refuse every connection to another machine, here and in the processes that a tutorial starts."""
    connect = socket.socket.connect

    def local(self, address):
        assert not isinstance(address, tuple) or address[0] in LOCAL, address
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")


@pytest.mark.slow
@pytest.mark.filterwarnings(QUIET)
@pytest.mark.filterwarnings("ignore::registry.YankedWarning")
@pytest.mark.usefixtures("hub", "no_network")
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_tutorial_runs(path, tmp_path, monkeypatch):
    """With a short validation; ``python -m manual notebooks`` runs the whole one."""
    monkeypatch.setitem(registry.PROFILES, "quick", TEST)
    monkeypatch.setattr("registry.viability.validate.probe", few)
    monkeypatch.setenv("PYTHONPATH", str(notebooks.FOLDER.parents[1]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    outputs = notebooks.run(path)
    recorded = json.loads(path.with_suffix(".ipynb").read_text())["cells"]
    assert [len(found) for found in outputs] == [len(cell.get("outputs", [])) for cell in recorded]


def test_there_are_four_tutorials():
    assert [path.stem for path in SCRIPTS] == ["1-look", "2-train", "3-compose", "4-registry"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_is_its_script_as_it_ran(path):
    made, recorded = notebook(path.read_text()), json.loads(path.with_suffix(".ipynb").read_text())
    assert [{**cell, "outputs": []} if "outputs" in cell else cell for cell in recorded["cells"]] == [
        {**cell, "outputs": []} if cell["cell_type"] == "code" else cell for cell in made["cells"]
    ]
    assert {**recorded, "cells": [], "metadata": {}} == {"nbformat": 4, "nbformat_minor": 5, "cells": [], "metadata": {}}
    assert recorded["metadata"]["processor_seconds"] > 0


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_has_the_form_that_jupyter_reads(path):
    """The fields that nbformat 4.5 requires, no other outputs than those three, and unique names of cells."""
    found = json.loads(path.with_suffix(".ipynb").read_text())
    required = {"markdown": {"id", "cell_type", "metadata", "source"}}
    required["code"] = required["markdown"] | {"execution_count", "outputs"}
    assert all({*cell} == required[cell["cell_type"]] for cell in found["cells"])
    assert len({cell["id"] for cell in found["cells"]}) == len(found["cells"])
    fields = {
        "stream": {"output_type", "name", "text"},
        "execute_result": {"output_type", "data", "metadata", "execution_count"},
    }
    outputs = [output for cell in found["cells"] for output in cell.get("outputs", [])]
    assert all({*output} == fields[output["output_type"]] for output in outputs)


def test_a_script_is_split_into_its_cells():
    script = "# %% [markdown]\n# # Title\n#\n# text\n\n# %%\nx = 1\n\n# %% [bash]\n# ls \\\n#     here\n"
    assert cells(script) == [
        TutorialCell("markdown", "# Title\n\ntext"),
        TutorialCell("python", "x = 1"),
        TutorialCell("bash", "ls \\\n    here"),
    ]


def test_outputs_are_those_of_a_notebook(tmp_path):
    path = tmp_path / "one.py"
    path.write_text("# %% [markdown]\n# # T\n# %%\nprint('said')\n2 + 2\n# %%\nx = None\nx\n# %% [bash]\n# echo from bash\n")
    _, first, second, third = notebooks.run(path)
    assert [output["output_type"] for output in first] == ["stream", "execute_result"]
    assert (first[1]["data"]["text/plain"], second, third[0]["text"]) == (["4"], [], ["from bash\n"])
    page = notebooks.markdown(json.dumps(notebook(path.read_text(), [[], first, second, third], 2.4)), "tutorials/one")
    assert page.startswith("# T\n\nIt takes 2 s of one core")
    assert "```python\nprint('said')\n2 + 2\n```\n\n```text\nsaid\n```\n\n```text\n4\n```" in page
    assert "```bash\necho from bash\n```\n\n```text\nfrom bash\n```" in page


def test_a_tutorial_that_fails_is_not_recorded(tmp_path):
    path = tmp_path / "one.py"
    path.write_text("# %% [bash]\n# echo no >&2; false\n")
    with pytest.raises(subprocess.CalledProcessError, match="false") as caught:
        notebooks.run(path)
    assert caught.value.stderr == "no\n"
    path.write_text("# %%\n1 / 0\n")
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        notebooks.run(path)
