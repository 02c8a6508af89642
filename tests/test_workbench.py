"""``batteries`` train, validate, compose, and the README's own lines, as a user runs them."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

import batteries
from batteries import Cell
from registry.cli import main
from registry.controls import NAMED_CHECK

ROOT = Path(__file__).parents[1]


def run(capsys, *words):
    code = main(list(words))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_train_writes_a_cell_that_its_command_trains_again(capsys, tmp_path):
    words = [
        "train",
        "high/tiny-32@0.2.0",
        "--noise",
        "--steps",
        "6",
        "--size",
        "32",
        "--batch",
        "4",
        "--description",
        "two words",
    ]
    code, out, _ = run(capsys, *words, "--out", str(tmp_path), "--run", str(tmp_path / "run"), "--json")
    assert code == 0
    cell = Cell.read(json.loads(out)["path"])
    assert (cell.name, cell.version, cell.manifest.identity.family) == ("high/tiny-32", "0.2.0", "tiny")
    command = shlex.split(cell.manifest.training.command)
    assert command[0] == "batteries"
    again = run(capsys, *command[1:], "--out", str(tmp_path / "again"), "--run", str(tmp_path / "other"))
    assert again[0] == 0
    for name in ("high/tiny-32.safetensors", "high/tiny-32.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_train_on_photographs_names_what_it_skips(capsys, tmp_path):
    Image.linear_gradient("L").save(tmp_path / "a.png")
    (tmp_path / "broken.jpg").write_bytes(b"no")
    words = ["--photos", str(tmp_path), "--steps", "2", "--size", "32", "--batch", "2", "--out", str(tmp_path / "out")]
    code, out, err = run(capsys, "train", "high/grey-32", *words, "--run", str(tmp_path / "run"))
    assert code == 0
    assert "broken.jpg" in err
    assert "1 read, 1 skipped" in err
    assert "high/grey-32@1.0.0" in out


def test_the_triage_ends_a_run_with_seven(capsys, tmp_path, monkeypatch):
    assert batteries.expected_band(batteries.CellSpec.preset("high")) == "high"  # what the command asks beforehand
    monkeypatch.setattr("batteries.training.expected_band", lambda spec: "mid")
    words = ["--noise", "--steps", "1001", "--size", "4", "--batch", "1", "--rate", "1e-6"]
    code, _, err = run(capsys, "train", "high/x", *words, "--run", str(tmp_path / "run"), "--out", str(tmp_path))
    assert code == 7
    assert "walked back: band high at step 1000, expected mid" in err
    assert not (tmp_path / "high").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["train", "high/x", "--steps", "1"], 2, "--noise, or --photos"),
        (["train", "high/x", "--steps", "1", "--noise", "--photos", "x"], 2, "too much"),
        (["train", "open/x", "--steps", "1", "--noise"], 2, "no such preset"),
        (["train", "high/x", "--steps", "1", "--noise", "--rate", "-1"], 2, "rate"),
        (["train", "high/x", "--steps", "1", "--noise", "--schedule", "zigzag"], 2, "schedule"),
        (["train", "low/x", "--steps", "1", "--noise", "--size", "40"], 2, "multiples of 16"),
        (["train", "Low/x", "--steps", "1", "--noise"], 2, "BAD_REFERENCE"),
        (["train", "high/x", "--steps", "1", "--photos", "{empty}"], 3, "no photograph"),
        (["train", "high/x_y", "--steps", "1", "--noise"], 2, "family"),
        (["train", "high/x", "--steps", "1", "--noise", "--description", "x" * 2001], 2, "description"),
        (["train", "high/x", "--steps", "1", "--noise", "--seed", "9" * 20], 2, "--seed"),
        (["train", "high/x", "--steps", "9", "--noise", "--size", "16", "--rate", "1e30"], 6, "training diverged"),
        (["train", "low/x", "--steps", "1", "--noise", "--preset", "high"], 6, "BAND_DENIED"),
        (["validate", "low/fresnel-256", "--control", "none", "--attest", "{empty}"], 2, "not attested"),
        (["validate", "low/fresnel-256", "--attest", "{empty}/none"], 3, "no such registry"),
        (["compose"], 2, "nothing to compose"),
        (["compose", "low/fresnel-256", "low/fresnel-256"], 2, "a cell given twice"),
        (["compose", "low/fresnel-256", "--probe", "cats"], 3, "photos-64"),
        (["compose", "low/fresnel-265"], 3, "low/fresnel-256"),
        (["validate", "low/fresnel-265"], 3, "low/fresnel-256"),
        (["validate", "{empty}/x.safetensors"], 3, "no such file"),
        (["validate", "low/fresnel-256", "--control", "magic"], 2, "untrained | none | scale"),
    ],
)
def test_bad_input(capsys, tmp_path, monkeypatch, words, code, says):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(tmp_path)
    found, out, err = run(capsys, *(word.format(empty=empty) for word in words))
    assert (found, out) == (code, "")
    assert says in err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_cell_alone_composes(capsys):
    code, out, _ = run(capsys, "compose", "low/fresnel-256")
    assert code == 0
    assert "low/fresnel-256@" in out


def test_a_usage_error_under_json_is_one_object(capsys):
    code, out, err = run(capsys, "validate", "--json", "--bogus")
    assert code == 2
    assert json.loads(out)["error"]["code"] == "USAGE"
    assert "bogus" in err


@pytest.mark.parametrize("control", NAMED_CHECK)
def test_a_control_exits_with_seven_and_its_named_check(capsys, control):
    code, out, err = run(capsys, "validate", "low/fresnel-256", "--control", control, "--json")
    assert code == 7
    answer = json.loads(out)
    assert answer["verdict"] == "walked back"
    assert NAMED_CHECK[control] in answer["failed"]
    assert "walked back because of" in err


def test_validate_takes_a_cell_file_and_attests(capsys, tmp_path):
    assert run(capsys, "pull", "low/fresnel-256", "--out", str(tmp_path))[0] == 0
    path = tmp_path / "low" / "fresnel-256.safetensors"
    assert run(capsys, "publish", str(path), "--to", str(tmp_path / "registry"))[0] == 0
    code, out, err = run(capsys, "validate", str(path), "--attest", str(tmp_path / "registry"))
    assert code == 0
    assert "accuracy lift" in out
    assert "viable: every deciding check passed" in err
    listed = json.loads(run(capsys, "list", "--registry", str(tmp_path / "registry"), "--json")[1])
    assert listed["cells"][0]["attestations"]["first-2"]["verdict"] == "viable"


def test_compose_prints_errors_and_lift(capsys):
    code, out, _ = run(capsys, "compose", "low/fresnel-256", "low/johanna-64", "high/johanna-64", "--json")
    assert code == 0
    rows = {row["cell"]: row for row in json.loads(out)["cells"]}
    assert rows["high/johanna-64"]["mse"] < rows["low/fresnel-256"]["mse"] < 0.1
    assert all(row["lift"] > 5 * row["null_sd"] for row in rows.values())


def test_the_readmes_python_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102  our own file
    assert names["report"].verdict == "viable"
    assert [tuple(tokens.shape) for tokens in names["out"].omega] == [(8, 16, 16), (8, 16, 16), (8, 256, 16)]
    assert names["out"].recon.shape == (8, 3, 3, 64, 64)
    assert names["out"].error.shape == (8, 3)


def test_every_command_of_the_readme_exists(capsys):
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("batteries ")]
    assert len(lines) >= 8
    for command in {shlex.split(line)[1] for line in lines}:
        assert run(capsys, command, "--help")[0] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")
def test_help_starts_without_torch():
    from tests.making import python

    code = "import sys; from registry.cli import main; main(['validate', '--help']); print('torch' in sys.modules)"
    assert python(code).stdout.splitlines()[-1] == "False"
