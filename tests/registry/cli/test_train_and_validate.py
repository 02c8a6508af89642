"""``batteries`` train, validate, compose, and the README's own lines, as a user runs them."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

import batteries
import registry
from batteries import Cell, probe
from batteries.cell.input_scale import of_unit_images
from batteries.training.recipe import Recipe
from registry import Report
from registry.catalog import check_names
from registry.viability.controls import NAMED_CHECK
from tests.support.cells import ROOT, attestation, from_model, litter, publish, python, tiny
from tests.support.commands import run
from tests.support.soak import SOAK
from tests.support.viability import SPEC, TEST, few

pytestmark = pytest.mark.usefixtures("few_matrices")
SMALL = ["--set", "V=12", "--set", "hidden=8"]  # options of train: soon trained, soon measured
SHORT_CLI = """
import sys, pytest
from registry.cli import main
from tests.registry.cli.test_train_and_validate import shorten
shorten(pytest.MonkeyPatch())
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Of the short tests of this file: the null of their one spec is made once."""
    return tmp_path_factory.mktemp("home")


def shorten(monkeypatch):
    """Make the quick profile a matter of seconds, on a few images: its verdicts mean nothing."""
    monkeypatch.setitem(registry.PROFILES, "quick", TEST)
    monkeypatch.setattr("registry.viability.validate.probe", few)
    monkeypatch.setattr(sys.modules["batteries.measurement.measure"], "MATRICES", 32)


@pytest.fixture
def short(monkeypatch, home):
    """A short validation, in the home of this file."""
    shorten(monkeypatch)
    monkeypatch.setenv("BATTERIES_HOME", str(home))


@pytest.fixture
def files(tmp_path):
    """Two untrained cells, as files."""
    return [str(from_model(SPEC, seed, name).write(tmp_path)) for seed, name in enumerate("ab")]


@pytest.mark.slow
@pytest.mark.usefixtures("few")
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
        *SMALL,
        "--description",
        "two words",
    ]
    code, out, _ = run(capsys, *words, "--out", str(tmp_path), "--run", str(tmp_path / "run"), "--json")
    assert code == 0
    cell = Cell.read(json.loads(out)["path"])
    assert (cell.name, cell.version, cell.manifest.identity.family) == ("high/tiny-32", "0.2.0", "tiny")
    assert cell.spec == batteries.CellSpec.preset("high", V=12, hidden=8)
    command = shlex.split(cell.manifest.training.command)
    assert command[0] == "batteries"
    again = run(capsys, *command[1:], "--out", str(tmp_path / "again"), "--run", str(tmp_path / "other"))
    assert again[0] == 0
    for name in ("high/tiny-32.safetensors", "high/tiny-32.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_train_takes_any_spec_and_optimiser_and_records_them(capsys, tmp_path):
    settings = ["--set", "D=6", "--set", "depth=2", "--set", "activation=silu", "--preset", "high", *SMALL]
    words = [*shlex.split("--noise --steps 2 --size 32 --batch 4 --optimiser muon --json --out"), str(tmp_path), *settings]
    code, out, _ = run(capsys, "train", "open/tiny-32", *words, "--run", str(tmp_path / "run"))
    assert code == 0
    manifest = Cell.read(json.loads(out)["path"]).manifest
    assert manifest.spec == batteries.CellSpec.preset("high", D=6, V=12, hidden=8, depth=2, activation="silu")
    assert manifest.spec.heads == 2
    assert manifest.training.optimiser.startswith("Muon 0.02 on matrices")
    plan = Recipe.parse(manifest.training.command).plan(None)
    assert (plan.spec, plan.describe()[0]) == (manifest.spec, manifest.training.optimiser)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        "--optimiser sgd --momentum 0.0 --schedule restarts --clip 0.0 --hand measured",
        "--optimiser lbfgs --hand penalty --boost 3.0 --fixed-batch",
        "--hand penalty --later-boost 3.0 --adaptive-clip --fixed-readout --set readout=narrow",
    ],
)
def test_settings_of_a_run_are_in_the_command_it_records(capsys, tmp_path, options):
    words = [*shlex.split(f"--noise --steps 1 --size 32 --batch 4 {options} --json --out"), str(tmp_path), *SMALL]
    code, out, _ = run(capsys, "train", "high/tiny-32", *words, "--run", str(tmp_path / "run"))
    assert code == 0
    training = Cell.read(json.loads(out)["path"]).manifest.training
    assert set(shlex.split(options)) <= set(shlex.split(training.command))
    assert Recipe.parse(training.command).plan(None).describe() == (training.optimiser, training.schedule, training.soft_hand)


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_train_may_start_from_a_cell_file(capsys, tmp_path):
    words = ["train", "high/tiny-32", "--noise", "--steps", "1", "--size", "32", "--batch", "4", *SMALL, "--json"]
    assert run(capsys, *words, "--out", str(tmp_path), "--run", str(tmp_path / "run"))[0] == 0
    first = tmp_path / "high" / "tiny-32.safetensors"
    more = ["--start", str(first), "--out", str(tmp_path / "on"), "--run", str(tmp_path / "other")]
    code, out, _ = run(capsys, *words, *more)
    assert code == 0
    manifest = Cell.read(json.loads(out)["path"]).manifest
    assert Cell.read(first).digest in manifest.training.optimiser
    assert f"--start {first}" in manifest.training.command


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_train_on_photographs_names_what_it_skips(capsys, tmp_path):
    Image.linear_gradient("L").save(tmp_path / "a.png")
    (tmp_path / "broken.jpg").write_bytes(b"no")
    words = ["--photos", str(tmp_path), "--steps", "2", "--size", "32", "--batch", "2", "--out", str(tmp_path / "out")]
    code, out, err = run(capsys, "train", "high/grey-32", *words, *SMALL, "--run", str(tmp_path / "run"))
    assert code == 0
    assert "broken.jpg" in err
    assert "1 read, 1 skipped" in err
    assert "high/grey-32@1.0.0" in out


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_train_on_photographs_of_several_places_with_noise_among_them(capsys, tmp_path):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        Image.linear_gradient("L").save(tmp_path / place / f"{place}.png")
    places = ["--photos", str(tmp_path / "one"), "--photos", str(tmp_path / "two" / "*.png"), "--mix", "0.5"]
    words = [*places, "--steps", "1", "--size", "32", "--batch", "2", *SMALL, "--out", str(tmp_path)]
    code, out, err = run(capsys, "train", "high/grey-32", *words, "--run", str(tmp_path / "run"), "--json")
    assert code == 0
    assert "2 read, 0 skipped" in err
    facts = Cell.read(json.loads(out)["path"]).manifest.training
    assert (facts.data.kind, facts.data.images) == ("photos", 2)
    assert "50% generated noise" in facts.data.description
    assert shlex.join(places) in facts.command


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_a_cell_is_named_off_only_where_its_cv_says_so(capsys, tmp_path):
    words = ["--noise", "--steps", "1", "--size", "16", "--batch", "1", *SMALL, "--preset", "high", "--out", str(tmp_path)]
    code, _, err = run(capsys, "train", "off/x", *words, "--run", str(tmp_path / "run"))
    assert (code, "BAND_DENIED" in err, "expected high" in err) == (6, True, True)  # after training, which only tells


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_the_triage_ends_a_run_with_seven(capsys, tmp_path, monkeypatch):
    assert batteries.Plan.model_fields["triage_step"].default == 1000
    planned = Recipe.plan
    monkeypatch.setattr(Recipe, "plan", lambda *given: planned(*given).model_copy(update={"triage_step": 100}))
    assert batteries.expected_band(batteries.CellSpec.preset("high")) == "high"  # what the command asks beforehand
    monkeypatch.setattr("batteries.training.trainer.expected_band", lambda spec: "mid")
    words = ["--noise", "--steps", "101", "--size", "4", "--batch", "1", "--rate", "1e-6"]
    code, _, err = run(capsys, "train", "high/x", *words, "--run", str(tmp_path / "run"), "--out", str(tmp_path))
    assert code == 7
    assert "run stopped: band high at step 100, expected mid" in err
    assert not (tmp_path / "high").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["train", "high/x", "--steps", "1"], 2, "--noise (with --types for some of its types), or --photos"),
        (["train", "high/x", "--steps", "1", "--noise", "--photos", "x"], 2, "missing or conflicting training data"),
        (["train", "high/x", "--steps", "1", "--noise", "--mix", "0.5"], 2, "with --mix"),
        (["train", "high/x", "--steps", "1", "--noise", "--rows", "4"], 2, "V: "),
        (["train", "high/x", "--steps", "1", "--noise", "--set", "V=4", "--set", "init=none"], 2, "V: "),
        (["train", "high/x", "--steps", "1", "--noise", "--set", "V=4", "--set", "init=none"], 2, "init: "),
        (["train", "high/x", "--steps", "1", "--noise", "--set", "width=4"], 2, "expected V | D | patch_size"),
        (["train", "high/x", "--steps", "1", "--noise", "--set", "channels=1"], 2, "CHANNELS"),
        (["train", "off/x", "--steps", "1", "--noise", "--preset", "low", "--set", "D=2"], 2, "NO_CV"),
        (["train", "low/x", "--steps", "1", "--noise", "--size", "48", "--set", "patch_size=48"], 2, "IMAGE_SIZE"),
        (["train", "low/x", "--steps", "1", "--noise", "--set", "hidden=8192", "--set", "V=4096"], 4, "TOO_LARGE"),
        (["train", "high/x", "--steps", "1", "--noise", "--optimiser", "lion"], 2, "adam | adamw | sgd | muon"),
        (["train", "high/x", "--steps", "1", "--noise", "--rate", "0"], 2, "rate"),
        (["train", "--noise", "high/x", "--steps", "1", "--rate", "0"], 2, "rate"),
        (["train", "high/x", "--steps", "1", "--rate", "0", "--noise"], 2, "rate"),
        (["train", "high/x", "--steps", "1", "--noise=pink"], 2, "unknown noise: expected batteries | published, got pink"),
        (["train", "open/x", "--steps", "1", "--noise"], 2, "unknown preset"),
        (["train", "high/x", "--steps", "1", "--noise", "--rate", "-1"], 2, "rate"),
        (["train", "high/x", "--steps", "1", "--noise", "--schedule", "zigzag"], 2, "schedule"),
        (["train", "high/x", "--steps", "1", "--noise", "--hand", "none"], 2, "unknown hand: expected loss | measured"),
        (["train", "high/x", "--steps", "1", "--noise", "--momentum", "0.9"], 2, "setting of sgd, not of adam"),
        (["train", "high/x", "--steps", "1", "--noise", "--optimiser", "sgd", "--momentum", "1"], 2, "momentum"),
        (["train", "high/x", "--steps", "1", "--noise", "--optimiser", "lbfgs", "--clip", "1"], 2, "clip must be 0"),
        (["train", "high/x", "--steps", "1", "--noise", "--hand", "measured", "--boost", "1"], 2, "boost must be 0"),
        (["train", "high/x", "--steps", "1", "--noise", "--clip", "nan"], 2, "clip"),
        (["train", "low/x", "--steps", "1", "--noise", "--size", "40"], 2, "multiples of 16"),
        (["train", "Low/x", "--steps", "1", "--noise"], 2, "BAD_REFERENCE"),
        (["train", "high/x", "--steps", "1", "--photos", "{empty}"], 3, "no readable photograph"),
        (["train", "high/x_y", "--steps", "1", "--noise"], 2, "family"),
        (["train", "high/x", "--steps", "1", "--noise", "--description", "x" * 2001], 2, "description"),
        (["train", "high/x", "--steps", "1", "--noise", "--seed", "9" * 20], 2, "--seed"),
        (["train", "high/x", "--steps", "9", "--noise", "--size", "16", "--rate", "1e30"], 6, "training diverged"),
        (["train", "low/x", "--steps", "1", "--noise", "--preset", "high"], 6, "BAND_DENIED"),
        (["train", "open/x", "--steps", "1", "--noise", "--preset", "high"], 6, "BAND_DENIED"),
        (["train", "off/x", "--steps", "1", "--noise"], 2, "PRESET"),
        (["validate", "low/fresnel-256", "--control", "none", "--attest", "{empty}"], 2, "control cannot be attested"),
        (["validate", "low/fresnel-256", "--attest", "{empty}/none"], 3, "no such registry"),
        (["validate", "low/fresnel-256", "--attest", "{empty}"], 3, "NO_INDEX"),
        (["compose"], 2, "nothing to compose"),
        (["compose", "low/fresnel-256", "low/fresnel-256"], 6, "duplicate cell"),
        (["compose", "low/fresnel-256", "--probe", "cats"], 2, "photos-64"),
        (["compose", "low/fresnel-265"], 3, "low/fresnel-256"),
        (["validate", "low/fresnel-265"], 3, "low/fresnel-256"),
        (["validate", "{empty}/x.safetensors"], 3, "no such file"),
        (["validate", "low/fresnel-256", "--control", "magic"], 2, "untrained | none | scale"),
        (
            ["validate", "low/fresnel-256", "--profile", "bogus"],
            2,
            "unknown profile: expected quick | standard, got bogus [PROFILE]",
        ),
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


@pytest.mark.slow
def test_a_cell_of_another_input_scale_is_fed_on_its_own(capsys, tmp_path):
    (plain,) = registry.pull("high/fresnel-64")
    imagenet = of_unit_images((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    identity = plain.manifest.identity.model_copy(update={"input": imagenet})
    cell = Cell(plain.weights, plain.manifest.model_copy(update={"identity": identity}))
    publish(cell, tmp_path)
    code, out, _ = run(capsys, "compose", "high/fresnel-64", "--registry", str(tmp_path), "--json")
    assert code == 0
    fed = batteries.images.to_input(probe("photos-64").images, imagenet)
    with torch.no_grad():
        error = (batteries.PatchSVAE.from_cell(cell)(fed).recon - fed).square().mean()
    assert json.loads(out)["cells"][0]["mse"] == pytest.approx(float(error), rel=1e-4)


def test_a_usage_error_under_json_is_one_object(capsys):
    code, out, err = run(capsys, "validate", "--json", "--bogus")
    assert code == 2
    assert json.loads(out)["error"]["code"] == "USAGE"
    assert "bogus" in err


@pytest.mark.slow
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("control", [name for name in NAMED_CHECK if name != "shuffled"])  # it needs a trained cell
def test_a_control_exits_with_seven_and_its_named_check(capsys, files, control):
    code, out, err = run(capsys, "validate", files[0], "--control", control, "--json")
    assert code == 7
    (answer,) = json.loads(out)["reports"]
    assert answer["verdict"] == "walked back"
    assert NAMED_CHECK[control] in answer["failed"]
    assert answer["report"]["control"] == control
    assert "walked back because of" in err


@pytest.mark.slow
@pytest.mark.usefixtures("short", "by_hand")
def test_validate_takes_a_cell_file_and_attests(capsys, tmp_path, files):
    assert run(capsys, "publish", files[0], "--to", str(tmp_path / "registry"))[0] == 0
    code, out, err = run(capsys, "validate", files[0], "--attest", str(tmp_path / "registry"))
    assert code == 7
    assert "lift to name the noise type" in out
    assert "high/a@1.0.0: walked back because of: history, error vs mean, error vs manifest" in err
    listed = json.loads(run(capsys, "list", "--registry", str(tmp_path / "registry"), "--json")[1])
    assert listed["cells"][0]["attestations"]["test-1"]["verdict"] == "walked back"


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_validate_writes_a_page(capsys, tmp_path, files):
    code, out, _ = run(capsys, "validate", files[0], "--html", str(tmp_path / "page.html"), "--json")
    assert code == 7
    text = (tmp_path / "page.html").read_text()
    assert "<strong>Walked back</strong>" in text
    (answer,) = json.loads(out)["reports"]
    assert check_names.listed(answer["failed"]) in text


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_two_cells_give_two_reports_on_one_page(capsys, tmp_path, files):
    code, out, err = run(capsys, "validate", *files, "--html", str(tmp_path / "page.html"), "--json")
    assert code == 7
    found = json.loads(out)["reports"]
    assert [answer["report"]["reference"] for answer in found] == ["high/a@1.0.0", "high/b@1.0.0"]
    assert found[0]["report"]["cell"] != found[1]["report"]["cell"]
    assert "2 walked back" in (tmp_path / "page.html").read_text()
    assert [line.split(":")[0] for line in err.splitlines() if "walked back" in line] == ["high/a@1.0.0", "high/b@1.0.0"]


@pytest.mark.parametrize(
    ("verdicts", "code"), [(["viable"], 0), (["viable"] * 2, 0), (["viable", "walked back"], 7), (["no verdict", "viable"], 7)]
)
def test_the_exit_code_is_zero_where_every_cell_is_viable(capsys, monkeypatch, verdicts, code):
    left = iter(verdicts)
    monkeypatch.setattr(registry, "validate", lambda *_, **__: Report(attestation(tiny(), verdict=next(left))))
    found, out, err = run(capsys, "validate", *(f"high/cell-{index}" for index in range(len(verdicts))), "--json")
    assert found == code
    assert [answer["verdict"] for answer in json.loads(out)["reports"]] == verdicts
    assert err.count("viable: every deciding check passed") == verdicts.count("viable")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")
def test_a_stopped_validation_says_how_to_go_on_and_goes_on(capsys, tmp_path, monkeypatch, files):
    monkeypatch.setenv("BATTERIES_HOME", str(tmp_path / "home"))
    shorten(monkeypatch)
    words, results = ["validate", files[0], "--json"], tmp_path / "home" / "viability"
    with subprocess.Popen(
        [sys.executable, "-c", SHORT_CLI, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not list(results.glob("*.json")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "finished parts are kept, and the same command resumes from them" in " ".join(err.split())
    assert "Traceback" not in err
    assert litter(tmp_path) == []
    finished = {path: path.stat().st_mtime_ns for path in results.iterdir()}
    assert finished
    assert run(capsys, *words)[0] == 7
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert len(list(results.iterdir())) > len(finished)


@pytest.mark.slow
def test_compose_prints_errors_and_lift(capsys):
    code, out, _ = run(capsys, "compose", "low/fresnel-256", "low/johanna-64", "high/johanna-64", "--json")
    assert code == 0
    rows = {row["cell"]: row for row in json.loads(out)["cells"]}
    assert rows["high/johanna-64"]["mse"] < rows["low/fresnel-256"]["mse"] < 0.1
    assert all(row["lift"] > 5 * row["null_sd"] for row in rows.values())


@pytest.mark.slow
def test_the_readmes_python_runs(tmp_path, monkeypatch):
    """With a short validation; ``make base`` runs the same lines with the whole one, and ``make soak`` does here."""
    if not SOAK:
        shorten(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102  our own file
    assert names["report"].verdict == "viable" or not SOAK
    assert names["report"].verdict.capitalize() in (tmp_path / "report.html").read_text()
    assert [tuple(tokens.shape) for tokens in names["out"].omega] == [(8, 16, 16), (8, 16, 16), (8, 256, 16)]
    assert names["out"].recon.shape == (8, 3, 3, 64, 64)
    assert names["out"].error.shape == (8, 3)


@pytest.mark.slow
def test_every_command_of_the_readme_exists(capsys):
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("batteries ")]
    assert len(lines) >= 8
    for command in {shlex.split(line)[1] for line in lines}:
        assert run(capsys, command, "--help")[0] == 0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")
def test_help_starts_without_torch():
    code = "import sys; from registry.cli import main; main(['validate', '--help']); print('torch' in sys.modules)"
    assert python(code).stdout.splitlines()[-1] == "False"


def test_a_page_that_cannot_be_written_is_told_before_the_test(tmp_path, capsys):
    code, _, err = run(capsys, "validate", "low/fresnel-256", "--html", str(tmp_path / "missing" / "page.html"))
    assert code == 2
    assert "missing parent folder" in err
