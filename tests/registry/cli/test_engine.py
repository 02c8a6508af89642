"""``--engine`` and ``--workers``: the same figures and files as on one thread of this process, and failures apart."""

import json

import pytest

from tests.support.cells import from_model
from tests.support.commands import run
from tests.support.engine_cells import short_validate
from tests.support.viability import SPEC

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_matrices")]
PROCESSES = ("--engine", "processes", "--workers", "2")


@pytest.fixture
def files(tmp_path):
    """Two untrained cells, as files, and one that cannot be tested."""
    return [str(from_model(SPEC, seed, name).write(tmp_path)) for seed, name in enumerate(("a", "b", "fails"))]


def without_seconds(report):
    """A report without what differs between two runs of one program."""
    return {name: value for name, value in report.items() if name not in ("seconds", "date", "created")}


@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_a_cell_has_the_figures_of_one_thread(capsys, monkeypatch, tmp_path, files, engine):
    if engine == "ray":
        pytest.importorskip("ray")
    monkeypatch.setattr("registry.validate", short_validate)
    found = []
    for home, words in enumerate((("--threads", "1"), ("--engine", engine, "--workers", "2"))):
        monkeypatch.setenv("BATTERIES_HOME", str(tmp_path / f"home{home}"))
        code, out, err = run(capsys, "validate", *files[:2], *words, "--json")
        assert code == 7, err
        found.append(json.loads(out)["reports"])
    assert [row["report"]["reference"] for row in found[0]] == ["high/a@1.0.0", "high/b@1.0.0"]
    assert [without_seconds(row["report"]) for row in found[0]] == [without_seconds(row["report"]) for row in found[1]]
    parts = [{path.name for path in (tmp_path / f"home{home}" / "viability").iterdir()} for home in range(2)]
    assert parts[0] == parts[1]  # the same command resumes from them
