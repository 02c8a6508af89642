"""Arrays by the command: rows of banks, refusals, one model of the adopted cells that is loaded, run, shown and published."""

import json
from dataclasses import replace

import pytest
import torch

import composer
from batteries import Cell
from registry.answers.adoption import AdoptAnswer
from tests.support.commands import run
from tests.support.public_arrays import config_of, rows_of, saved_array
from tests.support.public_models import Public

WORDS = ["--input", "plain", "--noise", "--name", "{band}/{stem}"]
SVD = Public(V=24)
LINEAR = replace(SVD, readout="linear", seed=1)
MOST = 1e-5


def adopt(capsys, path, *words):
    code, out, err = run(capsys, "adopt", path, *WORDS, *words, "--json")
    return code, AdoptAnswer.model_validate_json(out), err


def differences(model, publics, dtype):
    """Largest differences of omega and reconstruction from the public forward pass in float64, by cell."""
    x = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        out = model(x.to(dtype), taps=("omega", "recon"))
    for name, public in publics.items():
        omega, recon = public.forward(public.state(), x)
        yield float((out[name].omega - omega).abs().max())
        yield float((out[name].recon - recon).abs().max())


@pytest.mark.usefixtures("few")
def test_an_array_becomes_cells_and_a_model(capsys, tmp_path):
    config = config_of(SVD, ["Svd", "damaged", "Linear"], battery_kwargs={})
    path = saved_array(tmp_path / "public", [SVD, replace(SVD, seed=2), LINEAR], config, name="trio.safetensors")
    damaged = saved_array(tmp_path / "public", [SVD, Public(channels=1), LINEAR], config, name="trio.safetensors")
    assert damaged == path
    code, answer, err = adopt(capsys, path, "--out", tmp_path)
    assert code == 2
    assert [(row.bank, row.state, row.reference) for row in answer.files] == [
        ("banks.0", "adopted", "high/svd@1.0.0"),
        ("banks.1", "refused", None),
        ("banks.2", "adopted", "high/linear@1.0.0"),
    ]
    assert answer.files[1].error.code == "CHANNELS"
    assert answer.files[1].error.where == f"{path}:banks.1"
    assert "files: 1; 2 adopted, 1 refused, 1 composed" in err
    (row,) = answer.models
    assert (row.state, row.reference, row.banks, row.cells) == ("composed", "model/trio@1.0.0", 3, 2)
    publics = {"high/svd": SVD, "high/linear": LINEAR}
    cells = {name: Cell.read(tmp_path / f"{name}.safetensors") for name in publics}
    facts = cells["high/linear"].manifest.training
    assert "--key banks.2 --name '{band}/linear'" in facts.command or "--key banks.2" in facts.command
    assert facts.data.description.startswith("unknown: adopted from trio.safetensors:banks.2, sha256:")
    assert max(differences(composer.compose(cells, dtype=torch.float64), publics, torch.float64)) < MOST
    model = composer.load(row.path)
    assert max(differences(model, publics, torch.float32)) < 10 * MOST
    composition = composer.Composition.parallel({name: f"{name}@1.0.0" for name in cells})
    wired = composer.wire(cells, composition, "photos-64")  # what batteries compose does
    assert composer.save(wired, tmp_path / "again.safetensors").seal == composer.read(row.path).seal
    for command in (["show", row.path], ["list", row.path]):
        code, out, err = run(capsys, *command)
        assert (code, "trio" in out) == (0, True), err


@pytest.mark.usefixtures("few")
def test_phases_are_versions_in_folders_and_cells_of_one_model(capsys, tmp_path):
    phases = ["best", "final"]
    config = config_of(SVD, rows_of(1, phases), phases, array_spec_name="H2_64")
    path = saved_array(tmp_path / "public", [SVD, replace(SVD, seed=3)], config, name="model.safetensors")
    code, answer, err = adopt(capsys, path, "--out", tmp_path)
    assert code == 0, err
    assert [row.reference for row in answer.files] == ["high/quads-quad-0@2.0.0", "high/quads-quad-0@1.0.0"]
    assert Cell.read(tmp_path / "high" / "1.0.0" / "quads-quad-0.safetensors").manifest.training.claimed.test_mse == 0.25
    (row,) = answer.models
    assert row.reference == "model/h2-64@1.0.0"
    assert composer.load(row.path).names == ("high/quads-quad-0-2.0.0", "high/quads-quad-0-1.0.0")
    words = ["adopt", path, "--key", "banks.1", *WORDS, "--out", tmp_path / "one"]
    code, out, err = run(capsys, *words)  # one bank is answered as one file
    assert (code, out.splitlines()[0].split("\t")[0]) == (0, "high/quads-quad-0@1.0.0"), err
    assert "bank 1, battery 0 in phase final" in err
    assert not (tmp_path / "one" / "model").exists()


def test_a_dry_run_has_a_row_for_each_bank_and_no_model(capsys, tmp_path):
    path = saved_array(tmp_path, {0: SVD, 4: LINEAR})
    (tmp_path / "broken.safetensors").write_bytes(b"\0" * 9)
    code, answer, err = adopt(capsys, tmp_path, "--dry-run")
    assert code == 4
    assert [(row.bank, row.state, row.reference) for row in answer.files] == [
        ("banks.0", "ready", "{band}/array-0@1.0.0"),
        ("banks.4", "ready", "{band}/array-4@1.0.0"),
        (None, "refused", None),
    ]
    assert "array of 2 banks" in answer.files[1].reading
    assert answer.models == ()
    assert "files: 2; 2 ready, 1 refused" in err
    code, out, _ = run(capsys, "adopt", path, *WORDS, "--dry-run")
    assert (code, [row.split("\t")[1] for row in out.splitlines()]) == (0, [f"{path}:banks.{i}" for i in (0, 4)])


@pytest.mark.parametrize("key", ["banks.7", "model"])
def test_a_bank_that_is_not_there_is_refused(capsys, tmp_path, key):
    path = saved_array(tmp_path, [SVD, LINEAR])
    code, out, err = run(capsys, "adopt", path, "--key", key, *WORDS)
    assert (code, out) == (2, "")
    assert f"expected banks.0, banks.1, got {key} [KEY]" in err


def test_a_wrong_config_refuses_the_file_and_others_follow(capsys, tmp_path):
    saved_array(tmp_path / "a", [SVD, LINEAR], json.dumps({"batteries": 3}))
    saved_array(tmp_path / "b", [SVD])
    code, answer, _ = adopt(capsys, tmp_path, "--dry-run")
    assert code == 4
    assert [(row.bank, row.state) for row in answer.files] == [(None, "refused"), ("banks.0", "ready")]
    assert answer.files[0].error.code == "CONFIG"


@pytest.mark.usefixtures("few")
def test_one_name_for_all_banks_is_refused_for_the_second(capsys, tmp_path):
    path = saved_array(tmp_path / "public", [SVD, replace(SVD, seed=4)])
    words = ["--input", "plain", "--noise", "--name", "{band}/x", "--out", tmp_path]
    code, out, _ = run(capsys, "adopt", path, *words)
    assert code == 6
    assert [line.split("\t")[0] for line in out.splitlines()] == ["adopted", "refused", "composed"]
    assert "[OUT_CLASH]" in out


@pytest.mark.parametrize("command", ["show", "list"])
def test_show_and_list_name_the_command_for_an_array(capsys, tmp_path, command):
    path = saved_array(tmp_path, [SVD, LINEAR])
    code, out, err = run(capsys, command, path)
    assert (code, out) == (3, "")
    assert "Files of other trainers become cells by batteries adopt" in err
