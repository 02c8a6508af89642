"""``--engine`` and ``--workers``: the same figures and files as in this process, and failures beside the others' results."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.support.cells import from_model, publish, tiny
from tests.support.commands import run
from tests.support.engine_cells import named_verdict, short_validate
from tests.support.soak import SOAK
from tests.support.viability import SPEC

pytestmark = pytest.mark.usefixtures("few_matrices")
PROCESSES = ("--engine", "processes", "--workers", "2")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # Ray closes its logs when the program ends
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
@pytest.mark.parametrize("engine", ["processes", pytest.param("ray", marks=pytest.mark.skipif(not SOAK, reason="long"))])
def test_a_cell_has_the_figures_of_one_thread(capsys, monkeypatch, tmp_path, engine):
    if engine == "ray":
        pytest.importorskip("ray")
    monkeypatch.setattr("registry.validate", short_validate)
    file = from_model(SPEC, 0, "a").write(tmp_path)
    found = []
    for home, words in enumerate((("--threads", "1"), ("--engine", engine, "--workers", "2"))):
        monkeypatch.setenv("BATTERIES_HOME", str(tmp_path / f"home{home}"))
        code, out, err = run(capsys, "validate", file, *words, "--json")
        assert code == 7, err
        found.append(json.loads(out)["reports"])
    assert found[0] == found[1]
    parts = [{path.name: path.read_bytes() for path in (tmp_path / f"home{home}" / "viability").iterdir()} for home in range(2)]
    assert parts[0] == parts[1]  # the same command resumes from them, with or without an engine


def stub(tmp_path, name):
    """A cell file whose name decides how its test ends."""
    return str(tiny(name).write(tmp_path))


@pytest.mark.slow
def test_a_cell_that_cannot_be_tested_leaves_the_reports_of_the_others(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("registry.validate", named_verdict)
    good, other, untested, broken = (stub(tmp_path, name) for name in ("good", "walked", "untested", "broken"))
    missing, page = str(tmp_path / "none.safetensors"), tmp_path / "page.html"
    words = ["validate", missing, other, untested, broken, good, *PROCESSES, "--html", page]
    code, out, err = run(capsys, *words, "--json")
    assert code == 7  # the worst of 7, not viable, 3, no file, 2, unusable, and 1, a bug
    answer = json.loads(out)
    assert [row["verdict"] for row in answer["reports"]] == ["walked back", "viable"]
    assert {row["target"]: row["error"]["code"] for row in answer["failures"]} == {
        missing: "NO_FILE",
        untested: "UNTESTED",
        broken: "TASK_FAILED",
    }
    assert page.exists()
    assert "no test of this cell" in err


@pytest.mark.slow
def test_every_cell_viable_is_a_success(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("registry.validate", named_verdict)
    code, out, err = run(capsys, "validate", stub(tmp_path, "good"), *PROCESSES, "--json")
    assert code == 0, err
    assert json.loads(out)["failures"] == []


@pytest.mark.slow
def test_pairs_have_the_scores_of_one_process(capsys, tmp_path):
    for seed, name in enumerate(("a", "b", "c")):
        publish(from_model(SPEC, seed, name), tmp_path / "registry")
    words = ["align", "high/a", "high/b", "high/c", "--registry", tmp_path / "registry", "--json"]
    found = []
    for more in (("--threads", "1"), PROCESSES):
        code, out, err = run(capsys, *words, *more)
        assert code == 0, err
        found.append(json.loads(out))
    assert found[0] == found[1]
    assert found[0]["pairs"][0]["untrained"] is not None


@pytest.fixture
def photos(tmp_path):
    """Images of two sizes, one of them there twice."""
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(7):
        side = 64 if number % 3 else 48
        Image.fromarray(generator.integers(0, 256, (side, side, 3), np.uint8)).save(folder / f"{number}.png")
    (folder / "8.png").write_bytes((folder / "1.png").read_bytes())
    return folder


@pytest.mark.slow
def test_encoded_files_are_the_same_to_the_bit_and_resumed(capsys, tmp_path, photos):
    files = [str(from_model(SPEC, seed, name).write(tmp_path)) for seed, name in enumerate("ab")]
    words = ["encode", *files, photos, "--batch", "2", "--tokens", "omega,M", "--json"]
    out, other = tmp_path / "one.npz", tmp_path / "two.npz"
    assert run(capsys, *words, "--out", out)[0] == 0
    code, answer, err = run(capsys, *words, "--out", other, *PROCESSES)
    assert code == 0, err
    assert out.read_bytes() == other.read_bytes()
    assert json.loads(answer)["reused"] == 0
    (photos / "7.png").write_bytes(b"no image")
    assert run(capsys, *words, "--out", other, *PROCESSES)[0] == 2
    (photos / "7.png").unlink()
    code, answer, err = run(capsys, *words, "--out", other, *PROCESSES)
    assert code == 0, err
    assert json.loads(answer)["reused"] > 0


@pytest.mark.parametrize("command", ["validate", "align", "encode"])
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--engine", "threads"), 2, "processes | ray | ray:auto"),
        (("--engine", "ray://head"), 2, "ENGINE"),
        (("--workers", "0"), 2, "--workers"),
        (("--workers", "2", "--threads", "1"), 2, "each task of an engine has one thread"),
    ],
)
def test_bad_engines_are_refused_before_anything_is_fetched(capsys, tmp_path, command, words, code, says):
    given = {
        "validate": ["low/none"],
        "align": ["low/none", "low/neither"],
        "encode": ["low/none", tmp_path, "--out", tmp_path / "a.npz"],
    }[command]
    found, _, err = run(capsys, command, *given, *words)
    assert found == code
    assert says in err
