"""``batteries adopt``: a checkpoint to a measured cell, published and shown."""

import json
import shlex

import pytest
import torch
from PIL import Image

import batteries
import registry
from batteries import Cell, InputScale, PatchSVAE
from batteries.cell.input_scale import IMAGENET, of_unit_images
from batteries.cell.manifest import Manifest
from batteries.errors import InputError, PolicyError
from batteries.images import to_input
from batteries.io.canonical_json import sha256
from registry.cli import main
from tests.support.cells import python, tree
from tests.support.checkpoints import MEAN, PLAIN, SPEC, STD, saved, state
from tests.support.commands import run
from tests.support.public_models import Public


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "own"), [(["--noise"], "noise16-64"), (["--noise", "published"], "noise16p-64")])
def test_the_command_writes_a_measured_cell(capsys, tmp_path, noise, own):
    path = saved(tmp_path, {"model_state_dict": {f"module.{name}": tensor.half() for name, tensor in state().items()}})
    words = ["adopt", path, "--name", "high/my-cell@0.3.0", "--input", "imagenet", *noise, "--description", "two words"]
    code, out, err = run(capsys, *words, "--out", tmp_path, "--json")
    assert code == 0, err
    assert "float16 made float32" in err
    assert f"{SPEC.parameters:,}" in err
    answer = json.loads(out)
    cell = Cell.read(answer["path"])
    assert answer["manifest"] == cell.manifest.model_dump(mode="json")
    assert (cell.name, cell.version, cell.spec) == ("high/my-cell", "0.3.0", SPEC)
    assert cell.manifest.identity.input == IMAGENET
    assert cell.manifest.measured.keys() == {own, "photos-64"}
    assert cell.manifest.untrained.keys() == {own}
    assert cell.manifest.own.baselines.mean > 0
    facts = cell.manifest.training
    words_of_data = f"unknown: adopted from checkpoint.pt, sha256:{sha256(path.read_bytes())}, float16 made float32"
    assert facts.data.description == words_of_data
    nothing = (facts.steps, facts.batch, facts.seed, facts.data.digest, facts.data.images, facts.triage, facts.trajectory)
    assert nothing == (None, None, None, None, None, None, ())
    assert Manifest.from_bytes(cell.manifest.to_bytes(), where="x") == cell.manifest
    assert shlex.split(facts.command) == ["batteries", *map(str, words)]
    with pytest.raises(InputError, match="CELL_INPUT"):
        registry.validate(answer["path"])


@pytest.mark.slow
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("scale", ["plain", "imagenet"])
def test_an_adopted_cell_is_published_and_shown(capsys, tmp_path, scale):
    Image.linear_gradient("L").save(tmp_path / "a.png")
    (tmp_path / "registry").mkdir()
    words = ["--name", "high/mine-64", "--input", scale, "--photos", tmp_path / "a.png", "--out", tmp_path]
    code, out, err = run(capsys, "adopt", saved(tmp_path, state()), *words)
    assert code == 0, err
    assert "high/mine-64@1.0.0" in out
    assert "photos-64" in out
    assert "1 read, 0 skipped" in err
    code, _, err = run(capsys, "publish", tmp_path / "high" / "mine-64.safetensors", "--to", tmp_path / "registry")
    assert code == 0, err
    code, out, err = run(capsys, "show", "high/mine-64", "--registry", tmp_path / "registry")
    assert code == 0, err
    assert "adopted from checkpoint.pt" in out


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("band", ["low", "mid", "open"])
def test_a_band_that_the_cv_denies_is_refused_before_anything_is_written(capsys, tmp_path, band):
    path = saved(tmp_path, state())
    before = tree(tmp_path)
    code, out, err = run(capsys, "adopt", path, "--name", f"{band}/x", "--input", "plain", "--noise", "--out", tmp_path)
    assert (code, out) == (6, "")
    assert "BAND_DENIED" in err
    assert f"got {band}" in err
    assert "Name it high/x" in err
    assert tree(tmp_path) == before


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("D", [2, 3])
def test_a_width_without_a_cv_is_open_and_its_claims_are_kept(capsys, tmp_path, D):
    public = Public(D=D, heads=D, V=20)
    content = {"model_state_dict": public.state(), "config": public.config(), "epoch": 3, "test_mse": 0.25}
    (tmp_path / "registry").mkdir()
    words = ["--name", "open/mine-64", "--input", "plain", "--noise", "--out", tmp_path]
    code, out, err = run(capsys, "adopt", saved(tmp_path, content), *words)
    assert code == 0, err
    assert "open/mine-64@1.0.0" in out
    assert f"heads {D} of the config" in err
    assert "claimed by the maker: epoch 3, test_mse 0.25, dataset omega_noise, rate 0.0001" in err
    cell = Cell.read(tmp_path / "open" / "mine-64.safetensors")
    assert cell.manifest.training.claimed.model_dump() == {"epoch": 3, "test_mse": 0.25, "dataset": "omega_noise", "rate": 1e-4}
    assert "weights of model_state_dict" in cell.manifest.training.reading
    assert cell.manifest.own.cv.degenerate == cell.manifest.own.axial_cv.degenerate == f"D = {D} has no 4-volume"
    assert cell.manifest.own.band == "open"
    assert Manifest.from_bytes(cell.manifest.to_bytes(), where="x") == cell.manifest
    assert PatchSVAE.from_cell(cell)(torch.zeros(1, 3, 8, 8)).omega.shape == (1, 4, D)
    code, _, err = run(capsys, "publish", tmp_path / "open" / "mine-64.safetensors", "--to", tmp_path / "registry")
    assert code == 0, err
    for command in (["show", "open/mine-64"], ["list"]):
        code, out, err = run(capsys, *command, "--registry", tmp_path / "registry")
        assert code == 0, err
        assert "mine-64" in out


@pytest.mark.parametrize("channels", [1, 5])
def test_other_channels_have_no_probe_and_the_data_is_named(capsys, tmp_path, channels):
    public = Public(channels=channels)
    path = saved(tmp_path, {"model_state_dict": public.state(), "config": public.config()})
    code, _, err = run(capsys, "adopt", path, "--name", "high/x", "--input", "plain", "--noise", "--out", tmp_path)
    assert code == 2
    assert f"expected 3: no probe has other images, got {channels}, trained on omega_noise" in err


@pytest.mark.parametrize(
    ("text", "scale"),
    [
        ("plain", PLAIN),
        ("imagenet", IMAGENET),
        ("0.485,0.456,0.406/0.229,0.224,0.225", IMAGENET),
        ("0.5/0.5", PLAIN),
        ("0/1", InputScale(mean=(-1.0,) * 3, std=(2.0,) * 3)),
        ("0.5,0.5,0.5/1", InputScale(mean=(0.0,) * 3, std=(2.0,) * 3)),
    ],
)
def test_the_input_scale_is_read(tmp_path, monkeypatch, text, scale):
    given = []

    def refuse(*_, input, **__):
        given.append(input)
        raise PolicyError("far enough", code="ENOUGH")

    monkeypatch.setattr(batteries, "adopt", refuse)
    assert main(["adopt", str(saved(tmp_path, state())), "--name", "high/x", "--input", text, "--noise"]) == 6
    assert given == [scale]


def test_imagenets_scale_on_ours():
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    theirs = (images - torch.tensor(MEAN)[:, None, None].double()) / torch.tensor(STD)[:, None, None].double()
    torch.testing.assert_close(to_input(2 * images - 1, IMAGENET), theirs, rtol=0, atol=1e-6)
    assert of_unit_images(MEAN, STD) == IMAGENET
    assert IMAGENET.mean == tuple(2 * value - 1 for value in MEAN)
    assert IMAGENET.std == tuple(2 * value for value in STD)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--name", "high/x", "--noise"], 2, "--input"),
        (["--input", "plain", "--noise"], 2, "--name"),
        (["--name", "high/x", "--input", "plain", "--noise", "pink"], 2, "expected batteries | published, got pink"),
        (["--name", "x", "--input", "plain", "--noise"], 2, "BAD_REFERENCE"),
        (["--name", "high/x", "--input", "plain"], 2, "--noise, or --photos"),
        (["--name", "high/x", "--input", "plain", "--noise", "--photos", "x"], 2, "missing or conflicting domain"),
        (["--name", "high/x", "--input", "unit", "--noise"], 2, "MEAN/STD"),
        (["--name", "high/x", "--input", "1,2/1", "--noise"], 2, "MEAN/STD"),
        (["--name", "high/x", "--input", "0/0", "--noise"], 2, "greater than 0"),
        (["--name", "high/x", "--input", "nan/1", "--noise"], 2, "finite"),
        (["--name", "high/x", "--input", "plain", "--noise", "--heads", "3"], 2, "heads must divide D"),
        (["--name", "high/x_y", "--input", "plain", "--noise"], 2, "family"),
    ],
)
def test_bad_options(capsys, tmp_path, words, code, says):
    path = saved(tmp_path, state())
    before = tree(tmp_path)
    found, out, err = run(capsys, "adopt", path, *words, "--out", tmp_path)
    assert (found, out) == (code, "")
    assert says in err
    assert tree(tmp_path) == before


@pytest.mark.slow
def test_its_help_starts_without_torch():
    code = "import sys; from registry.cli import main; main(['adopt', '--help']); print('torch' in sys.modules)"
    assert python(code).stdout.splitlines()[-1] == "False"
