"""Many checkpoints in one command: rows, names, phases, options by glob, refusals, resuming after a kill, a repository."""

import json
import math
import os
import signal
import subprocess
import sys

import huggingface_hub
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batteries import Cell
from batteries.errors import BatteriesError, FormatError
from batteries.packaging import adoptable, checkpoint_places, package, shelf
from batteries.packaging.checkpoint_places import files_at, local_file
from registry.answers.adoption import AdoptAnswer
from tests.support.cells import litter
from tests.support.checkpoints import saved, state
from tests.support.commands import run
from tests.support.hubserver import QUIET, serving
from tests.support.public_arrays import config_of, saved_array
from tests.support.public_models import Public

WORDS = ["--input", "plain", "--noise", "--name", "{band}/{stem}"]
# the command, with figures of few images
QUICK = """
import dataclasses, sys
from batteries.packaging import package
whole = package.probe
def few(name):
    probe, every = whole(name), 6 if name == "photos-64" else 16
    return dataclasses.replace(probe, images=probe.images[::every], group=probe.group[::every])
package.probe = few
package.BASELINE_PATCHES = 512
from registry.cli import main
sys.exit(main(sys.argv[1:]))
"""


def general(seed=0, **more):
    return {"model_state_dict": state(seed=seed), "epoch": 3, "test_mse": 0.5, **more}


def filled(folder, names="abc"):
    """A folder of checkpoints of one spec, a text, and a file that is no checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        saved(folder, general(seed), f"{name}.pt")
    (folder / "notes.txt").write_text("text")
    return folder


def rows(out):
    return [line.split("\t") for line in out.splitlines()]


@pytest.mark.usefixtures("few")
def test_a_folder_in_one_command_goes_on_after_refusals_and_is_resumed(capsys, tmp_path, monkeypatch):
    folder = filled(tmp_path / "shelf", "AB")
    (folder / "a_damaged.pt").write_bytes(b"not a checkpoint")
    saved(folder, {"model_state_dict": Public(channels=1).state()}, "one_channel.pt")
    nulls, codes = [], []
    untrained, code = package.untrained_figures, package.linear_code
    monkeypatch.setattr(package, "untrained_figures", lambda *given: nulls.append(given) or untrained(*given))
    monkeypatch.setattr(package, "linear_code", lambda *given: codes.append(given) or code(*given))
    exit_code, out, err = run(capsys, "adopt", folder, *WORDS, "--out", tmp_path / "out")
    assert exit_code == 4
    assert [row[0] for row in rows(out)] == ["adopted", "adopted", "refused", "refused"]
    assert rows(out)[0][2:] == ["high/a@1.0.0", str(tmp_path / "out" / "high" / "a.safetensors")]
    assert "[CHECKPOINT]" in rows(out)[2][3]
    assert rows(out)[2][3] == "not a checkpoint: expected a .safetensors file or a zip archive [CHECKPOINT]"
    assert "[CHANNELS]" in rows(out)[3][3]
    assert "files: 4; 2 adopted, 2 refused" in err
    assert (len(nulls), len(codes)) == (1, 1)
    cell = Cell.read(tmp_path / "out" / "high" / "b.safetensors")
    assert cell.manifest.training.command.startswith("batteries adopt ")
    assert "'{band}/b' --input plain --noise" in cell.manifest.training.command
    assert cell.manifest.training.claimed.test_mse == 0.5
    found = run(capsys, "adopt", folder, *WORDS, "--out", tmp_path / "again", "--json")
    answer = AdoptAnswer.model_validate_json(found[1])
    assert [row.state for row in answer.files] == ["kept", "kept", "refused", "refused"]
    assert (found[0], len(nulls), len(codes)) == (4, 1, 1)
    assert Cell.read(tmp_path / "again" / "high" / "b.safetensors") == cell


@pytest.mark.usefixtures("few")
def test_a_band_that_the_cv_denies_is_said_and_the_figures_are_kept(capsys, tmp_path):
    path = saved(tmp_path, state())
    words = ["adopt", path, "--input", "plain", "--noise", "--out", tmp_path / "out"]
    code, out, err = run(capsys, *words, "--name", "low/x")
    assert (code, out) == (6, "")
    assert "expected high, got low [BAND_DENIED]" in err
    assert not (tmp_path / "out").exists()
    code, out, err = run(capsys, *words, path, "--name", "{band}/x")  # the same file twice is one
    assert (code, rows(out)[0][0]) == (0, "kept"), err


@pytest.mark.slow
@pytest.mark.filterwarnings(QUIET)
@pytest.mark.usefixtures("few")
def test_a_killed_command_is_resumed_also_from_a_repository(capsys, tmp_path, monkeypatch):
    folder = filled(tmp_path / "shelf", "a")
    banks = [Public(V=24, seed=seed) for seed in range(3)]
    saved_array(folder, banks, config_of(banks[0], list("bcd")))
    words = ["adopt", str(folder), *WORDS, "--out", str(tmp_path / "out")]
    program = [sys.executable, "-c", QUICK, *words]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ) as process:
        done = [process.stdout.readline().split("\t")[0] for _ in range(2)]
        process.send_signal(signal.SIGKILL)
    assert done == ["adopted", "adopted"]  # a file, and the first bank of three
    code, out, err = run(capsys, *words)
    assert code == 0, err
    states = [row[0] for row in rows(out)]
    assert states[:2] == ["kept", "kept"]
    assert states[3:] == ["adopted", "composed"]  # the third may have been finished before the signal arrived
    assert litter(tmp_path / "out") == []
    cells = {path.stem: Cell.read(path) for path in (tmp_path / "out" / "high").glob("*.safetensors")}
    assert sorted(cells) == list("abcd")
    model = (tmp_path / "out" / "model" / "array.safetensors").read_bytes()
    with serving() as hub:
        client = huggingface_hub.HfApi(endpoint=hub.url, token=hub.token)
        client.create_repo("them/shelf")
        client.upload_folder(repo_id="them/shelf", folder_path=folder, path_in_repo="cells")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        place = "hf://them/shelf@main:cells/a*"
        code, out, err = run(capsys, "adopt", place, *WORDS, "--out", tmp_path / "hub", "--json")
        assert code == 0, err
        answer = AdoptAnswer.model_validate_json(out)
        assert [(row.state, row.file, row.bank) for row in answer.files] == [
            ("kept", "hf://them/shelf:cells/a.pt", None),
            *(("kept", "hf://them/shelf:cells/array.safetensors", f"banks.{number}") for number in range(3)),
        ]
        assert [(row.state, row.reference) for row in answer.models] == [("composed", "model/array@1.0.0")]
        code, _, err = run(capsys, "adopt", "hf://them/shelf:none/*", *WORDS)
        assert (code, "NO_FILE" in err) == (3, True)
    adopted = {name: Cell.read(tmp_path / "hub" / "high" / f"{name}.safetensors") for name in "abcd"}
    assert adopted["a"] == cells["a"]
    assert {name: cell.digest for name, cell in adopted.items()} == {name: cell.digest for name, cell in cells.items()}
    assert (tmp_path / "hub" / "model" / "array.safetensors").read_bytes() == model


def test_a_dry_run_reads_and_measures_nothing(capsys, tmp_path):
    folder = filled(tmp_path / "shelf", "ab")
    code, out, _ = run(capsys, "adopt", folder, "--dry-run", "--json")
    assert (code, len(AdoptAnswer.model_validate_json(out).files)) == (2, 2)
    (folder / "c.pt").write_bytes(b"no")
    found = run(capsys, "adopt", folder, "--dry-run", "--json")
    answer = AdoptAnswer.model_validate_json(found[1])
    assert [row.state for row in answer.files] == ["incomplete", "incomplete", "refused"]
    assert answer.files[0].missing == ("--name", "--input", "--noise, or --photos")
    assert answer.files[0].spec.D == 4
    assert found[0] == 4
    code, out, err = run(capsys, "adopt", folder / "a.pt", *WORDS, "--dry-run", "--out", tmp_path / "out")
    assert (code, rows(out)[0][:3]) == (0, ["ready", str(folder / "a.pt"), "{band}/a@1.0.0"]), err
    assert "heads 2" in rows(out)[0][3]
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("few")
def test_phases_are_versions_and_two_files_of_one_name_are_refused(capsys, tmp_path):
    for seed, name in enumerate(("x_epoch10.pt", "x_epoch20.pt")):
        saved(filled(tmp_path / "runs", ""), general(seed), name)
    for folder in ("one", "two"):
        saved(filled(tmp_path / folder, ""), general(), "y.pt")
    code, out, _ = run(capsys, "adopt", *(tmp_path / name for name in ("runs", "one", "two")), *WORDS, "--out", tmp_path)
    assert code == 6
    assert [row[2] for row in rows(out)] == ["high/x@0.10.0", "high/x@0.20.0", "high/y@1.0.0", ""]
    assert "[OUT_CLASH]" in rows(out)[3][3]
    assert Cell.read(tmp_path / "high" / "0.20.0" / "x.safetensors").version == "0.20.0"


def test_options_by_glob(tmp_path):
    folder = filled(tmp_path / "shelf", "ab")
    filled(folder / "ablations", "c")
    ablations = '["ablations/*"]\nrow-norm = "none"\nnoise = "published"\n'
    (tmp_path / "adopt.toml").write_text('["*"]\ninput = "plain"\nphotos = ["p"]\n' + ablations)
    found = {item.run: item.options for item in shelf.items(files_at(str(folder)), {"heads": 1, "key": None})}
    assert found["a"] == shelf.Options(input="plain", photos=("p",), heads=1)
    assert found["c"] == shelf.Options(input="plain", noise="published", row_norm="none", heads=1)
    (folder / "adopt.toml").write_text('["*.pt"]\nheads = 2\n')  # that of the folder itself comes first
    assert {item.options.heads for item in shelf.items(files_at(str(folder)), {})} == {2}


@pytest.mark.parametrize("text", ["heads = 2", '["*"]\nhead = 2', '["*"]\nheads = "two"', "[", '["*"]\nnoise = "pink"'])
def test_bad_defaults_are_refused(tmp_path, text):
    (filled(tmp_path, "a") / "adopt.toml").write_text(text)
    with pytest.raises(FormatError, match=r"adopt\.toml.*DEFAULTS"):
        shelf.items(files_at(str(tmp_path)), {})


def test_places(tmp_path, monkeypatch):
    folder = filled(tmp_path / "a", "ab")
    (folder / "deep").mkdir()
    saved(folder / "deep", general(), "c.ckpt")
    assert [str(file.inside) for file in files_at(str(folder))] == ["a.pt", "b.pt", "deep/c.ckpt"]
    assert [str(file.inside) for file in files_at(str(tmp_path / "*" / "[a].pt"))] == ["a/a.pt"]
    assert files_at(str(tmp_path / "none.pt"))[0].inside.name == "none.pt"
    for place in ("hf://a", "hf://a/b/c", "hf://a/b@", str(tmp_path / "*.none"), str(tmp_path / "a" / "deep" / "[")):
        with pytest.raises(BatteriesError, match=r"PLACE|NO_FILE|BAD_"):
            files_at(place)[0].read()
    assert checkpoint_places.is_single([str(folder / "a.pt")])
    for several in ([str(folder)], ["a", "b"], ["hf://a/b"], ["*.pt"]):
        assert not checkpoint_places.is_single(several)


EPOCHS = st.lists(st.tuples(st.sampled_from("xy"), st.integers(0, 99)), unique=True)


@given(EPOCHS, st.lists(st.sampled_from(["z", "x"]), unique=True))
def test_phases_keep_the_order_of_epochs(epochs, others):
    names = [f"{name}_epoch{number}" for name, number in epochs]
    found = shelf.phases_of(local_file(f"d/{name}.pt") for name in (*names, *others))
    assert found.keys() == {f"d/{name}.pt" for name in (*names, *others)}
    for whole, (name, number) in zip(names, epochs, strict=True):
        alone = [one for one, _ in epochs].count(name) == 1
        assert found[f"d/{whole}.pt"] == ((whole, None) if alone else (name, f"0.{number}.0"))
    assert all(found[f"d/{name}.pt"] == (name, None) for name in others)


REPORT = {"per_epoch_metrics": [{"epoch": 1, "test_mse": 0.5, "cv_ema": 0.9}, {"epoch": 2, "test_mse": math.nan}, "x"]}


@pytest.mark.parametrize(
    ("text", "points", "dataset", "line"),
    [
        (json.dumps({**REPORT, "noise_types": [0, 4]}), [(1, 0.5, 0.9), (2, None, None)], "noise_types 0, 4", "claims of"),
        ('{"config": {"dataset": "shapes"}}', [], "shapes", "claims of"),
        ("[1]", None, None, "not a table"),
        ("{", None, None, "left unread: not JSON"),
        ("[" * 100_000, None, None, "left unread"),
    ],
)
def test_a_report_beside_a_checkpoint_is_claimed(tmp_path, text, points, dataset, line):
    (tmp_path / "final_report.json").write_text(text)
    found = adoptable(saved(tmp_path, state()), options={})
    assert line in found.lines[-1]
    if points is None:
        assert found.claimed is None
    else:
        assert [(one.epoch, one.test_mse, one.cv) for one in found.claimed.trajectory] == points
        assert found.claimed.dataset == dataset
