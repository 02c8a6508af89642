"""``batteries adapt``: a new cell beside its parent, published and pulled, its certificate, and bad options."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

import registry
from batteries import Cell
from composer import Hold
from registry.viability.holding import PROTOCOL
from tests.support.adaptation import LITTLE, small_cell
from tests.support.commands import run
from tests.support.viability import measure_little, one_of_a_group

FEW = ("--task", "naming", "--steps", 4, "--batch", 4)


@pytest.fixture(scope="module")
def little():
    with pytest.MonkeyPatch.context() as patch:
        measure_little(patch.setattr)
        patch.setattr("composer.adaptation.adapting.probe", one_of_a_group)
        patch.setattr("composer.adaptation.adapted.probe", one_of_a_group)
        patch.setattr("composer.adaptation.domains.probe", one_of_a_group)
        patch.setattr("composer.adaptation.domains.NUMBERS", LITTLE)
        yield


@pytest.fixture(scope="module")
def parent(little, tmp_path_factory):
    return small_cell().write(tmp_path_factory.mktemp("parent"))


@pytest.mark.slow
def test_an_adapted_cell_is_published_pulled_and_shown(parent, tmp_path, capsys):
    before = parent.read_bytes(), parent.with_suffix(".json").read_bytes()
    store, out = tmp_path / "registry", tmp_path / "out"
    assert run(capsys, "publish", parent, "--to", store)[0] == 0
    code, printed, err = run(capsys, "adapt", parent, *FEW, "--hold", "every=2", "--out", out, "--attest", store)
    assert code == 0, err
    told = printed[printed.index("name the noise type") :]  # after the path and the cell's own row
    assert max(map(len, told.splitlines())) <= 80
    assert "accuracy of the host" in printed
    assert (parent.read_bytes(), parent.with_suffix(".json").read_bytes()) == before
    (path,) = out.rglob("*.safetensors")
    cell = Cell.read(path)
    assert (cell.version, cell.manifest.adapted.parent) == ("1.1.0", f"{Cell.read(parent).name}@1.0.0")
    assert cell.manifest.training.command.startswith("batteries adapt ")
    assert "--attest" not in cell.manifest.training.command
    assert run(capsys, "publish", path, "--to", store)[0] == 0
    pulled = registry.load(f"{cell.name}@1.1.0", registry=store)
    assert pulled == cell
    assert pulled.manifest == cell.manifest
    code, printed, _ = run(capsys, "show", f"{cell.name}@1.1.0", "--registry", store)
    assert code == 0
    assert "adaptation in a host" in printed
    code, printed, _ = run(capsys, "show", f"{cell.name}@1.0.0", "--registry", store)
    assert f"holds ({PROTOCOL})" in " ".join(printed.split())
    assert "adaptation in a host" not in printed
    assert run(capsys, "verify", "--all", "--registry", store)[0] == 0
    assert run(capsys, "mirror", store, tmp_path / "mirror")[0] == 0
    assert not json.loads(run(capsys, "list", "--registry", store, "--where", "viable", "--json")[1])["cells"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::registry.stores.signed.trust_guard.SignerWarning")
def test_certificates_of_one_cell_add_up_in_a_signed_registry(parent, tmp_path, capsys):
    store, cell, key = tmp_path / "registry", Cell.read(parent), tmp_path / "key.pem"
    run(capsys, "key", "new", key)
    run(capsys, "publish", parent, "--to", store, "--sign", key)
    for name, hold in (("a", "every=4"), ("b", "none"), ("a2", "every=4")):
        words = ("--hold", hold, "--name", name, "--out", tmp_path, "--attest", store, "--sign", key, "--json")
        code, out, err = run(capsys, "adapt", parent, *FEW, *words)
        assert code == 0, err
        assert json.loads(out)["moments"][-1]["step"] == 4
    found = registry.current_certificate(cell, store)
    assert (found.protocol, found.verdict, found.cell) == (PROTOCOL, "holds", cell.digest)
    assert len(found.checks) == len(found.doses) == 2  # the last repeats the first
    assert [check.decides for check in found.checks] == [": raw;" not in check.name for check in found.checks]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--task", "sorting"), 2, "TASK"),
        ((*FEW, "--hold", "volume=1"), 2, "HOLD"),
        ((*FEW, "--optimiser", "lbfgs"), 2, "USAGE"),
        ((*FEW, "--rate", "-1"), 2, "USAGE"),
        ((*FEW, "--name", "x@^1"), 2, "NO_VERSION"),
        ((*FEW, "--photos", "nowhere"), 3, "NO_FOLDER"),
        ((*FEW, "--beside", "high/nothing"), 3, "NO_CELL"),
    ],
    ids=["task", "hold", "optimiser", "rate", "name", "photos", "beside"],
)
def test_bad_options_write_nothing(parent, tmp_path, capsys, words, code, said):
    found, out, err = run(capsys, "adapt", parent, *words, "--out", tmp_path)
    assert (found, out) == (code, "")
    assert said in err
    assert not [*tmp_path.rglob("*")]


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(parent, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("composer.adapt", lambda *given, **named: pytest.fail("the work began"))
    (tmp_path / "file").write_bytes(b"")
    code, _, err = run(capsys, "adapt", parent, *FEW, "--out", tmp_path / "file" / "cells", "--attest", tmp_path / "registry")
    assert (code, "DISK" in err) == (8, True)
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


def test_no_file_is_written_over(parent, tmp_path, capsys):
    band = Cell.read(parent).manifest.identity.band
    cell = Cell.read(parent).write(tmp_path / band)
    before = cell.read_bytes()
    code, _, err = run(capsys, "adapt", cell, *FEW, "--out", tmp_path)
    assert code != 0
    assert "FILE_EXISTS" in err
    assert cell.read_bytes() == before


def test_the_help_says_the_weights_and_bounds_of_today(capsys):
    code, printed, _ = run(capsys, "adapt", "--help")
    assert code == 0
    said = dict(re.findall(r"(\w+) \(([\d.]+)\)", " ".join(printed.split())))
    assert said == {field.name: f"{field.default:g}" for field in dataclasses.fields(Hold) if field.name != "guarded"}


@pytest.mark.slow
def test_an_interrupt_leaves_nothing(parent, tmp_path):
    words = ["adapt", parent, "--task", "naming", "--steps", "100000", "--out", tmp_path / "out"]
    code = "import sys; from batteries_entry import main; sys.exit(main())"
    with subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stderr=subprocess.PIPE, env=os.environ) as process:
        time.sleep(6)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert not [*tmp_path.rglob("*")]
