"""Checkpoints of experts: adopted with the types of their data, they are measured on the probe of these alone."""

import json
import shlex

import pytest

from batteries import Cell
from tests.support.checkpoints import saved, state
from tests.support.commands import run

WORDS = ["--input", "plain", "--noise"]


@pytest.mark.slow
@pytest.mark.usefixtures("few_matrices")
def test_an_expert_is_measured_on_its_own_types(capsys, tmp_path):
    path = saved(tmp_path, {"model_state_dict": state()})
    words = ["adopt", path, "--name", "high/expert", *WORDS, "--types", "brown,pink"]
    code, out, err = run(capsys, *words, "--out", tmp_path, "--json")
    assert code == 0, err
    cell = Cell.read(json.loads(out)["path"])
    assert cell.manifest.own_probe == "noise16-64:pink+brown"
    assert cell.manifest.measured.keys() == {"noise16-64:pink+brown", "photos-64"}
    assert cell.manifest.training.data.noise_types == ("pink", "brown")
    assert shlex.split(cell.manifest.training.command) == ["batteries", *map(str, words)]


@pytest.mark.slow
@pytest.mark.usefixtures("few_matrices")
def test_types_by_glob_and_a_domain_that_replaces_them(capsys, tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("pink.pt", "all.pt"):
        saved(folder, {"model_state_dict": state()}).rename(folder / name)
    text = '["*"]\nnoise = "batteries"\n["pink*"]\ntypes = "pink"\n'
    (folder / "adopt.toml").write_text(text)
    words = ["adopt", folder, "--name", "{band}/{stem}", "--input", "plain", "--out", tmp_path, "--json"]
    code, _, err = run(capsys, *words)
    assert code == 0, err
    probes = {name: Cell.read(tmp_path / "high" / f"{name}.safetensors").manifest.own_probe for name in ("pink", "all")}
    assert probes == {"pink": "noise16-64:pink", "all": "noise16-64"}
    (folder / "adopt.toml").write_text(text + '["pink.pt"]\nnoise = "published"\n')
    assert run(capsys, *words)[0] == 0
    assert Cell.read(tmp_path / "high" / "pink.safetensors").manifest.own_probe == "noise16p-64"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--noise", "--types", "pinks"], "NOISE_TYPE"),
        (["--noise", "--types", "pink,pink"], "NOISE_TYPE"),
        (["--noise", "--types", ""], "NOISE_TYPE"),
        (["--types", "pink"], "USAGE"),
        (["--photos", ".", "--types", "pink"], "USAGE"),
    ],
)
def test_types_that_cannot_be_are_refused_before_anything_is_written(capsys, tmp_path, words, code):
    path = saved(tmp_path, {"model_state_dict": state()})
    status, out, err = run(capsys, "adopt", path, "--name", "high/x", "--input", "plain", *words, "--out", tmp_path)
    assert (status, out) == (2, "")
    assert f"[{code}]" in err
    assert not (tmp_path / "high").exists()
