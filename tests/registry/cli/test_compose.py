"""``batteries compose``: a file or references to a model, its drawing, and what cannot be composed."""

import pytest
import torch

import composer
import registry
from composer.artifact.manifest import PackedLabel
from composer.artifact.model.manifest import ModelManifest
from registry.answers.composition import COMPOSING
from registry.answers.transfer import ANSWERS
from registry.stores import settings
from tests.support.cells import from_model, publish, tree
from tests.support.commands import answered, run
from tests.support.models import SPECS, images

FILE = """
schema_version = "1.0"
output = "all"
[cells]
noise = "lab/high/noise@^1"
low = "high/low"
[nodes.swap]
kind = "relay"
source = "noise"
target = "low"
[nodes.all]
kind = "parallel"
of = ["swap", "low"]
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A registry of two cells under a name, and a folder with a composition to work in."""
    for seed, name in enumerate(("noise", "low")):
        publish(from_model(SPECS[name], seed, name), tmp_path / "lab")
    settings.config_file().parent.mkdir(parents=True, exist_ok=True)
    settings.config_file().write_text(f'registry = "{tmp_path / "lab"}"\n[registries]\nlab = "{tmp_path / "lab"}"\n')
    work = tmp_path / "work"
    work.mkdir()
    (work / "pair.toml").write_text(FILE)
    monkeypatch.chdir(work)
    return work


@pytest.mark.slow
def test_a_file_is_composed_written_drawn_and_published(lab, capsys, tmp_path):
    words = ["compose", "pair.toml", "--out", "pair.safetensors", "--graph", "pair.mmd", "--description", "a pair"]
    answer = answered(capsys, COMPOSING["compose"], *words)
    assert ([cell.cell for cell in answer.cells], answer.output, answer.output_kind) == (["noise", "low"], "all", "parallel")
    assert answer.manifest == ModelManifest.from_bytes((lab / "pair.json").read_bytes(), where="pair")
    assert answer.manifest.identity == PackedLabel(name="pair", version="1.0.0", license="Apache-2.0", description="a pair")
    assert (answer.path, answer.graph) == ("pair.safetensors", "pair.mmd")
    assert (lab / "pair.mmd").read_text() == composer.draw(composer.Composition.read("pair.toml"))
    assert run(capsys, "publish", "pair.safetensors", "--to", tmp_path / "lab")[0] == 0
    pulled = registry.pull("model/pair")[0]
    assert pulled.composition == composer.Composition.read("pair.toml")
    with torch.no_grad():
        assert pulled(images()).output["swap"].recon.shape == (8, 3, 16, 16)


@pytest.mark.slow
def test_references_alone_are_put_side_by_side(lab, capsys):
    words = ["--out", "two.safetensors", "--name", "both", "--version", "0.2.0", "--license", "MIT"]
    answer = answered(capsys, COMPOSING["compose"], "compose", "high/low@1.0.0", "lab/high/noise", *words)
    assert [cell.cell for cell in answer.cells] == ["high/low", "high/noise"]
    assert (answer.manifest.path, answer.manifest.identity.version, answer.manifest.identity.license) == (
        "model/both",
        "0.2.0",
        "MIT",
    )
    loaded = composer.load("two.safetensors")
    assert dict(loaded.composition.cells) == {"high/low": "high/low@1.0.0", "high/noise": "lab/high/noise"}
    code, out, err = run(capsys, "compose", "high/low", "high/noise")
    assert (code, "high/noise@1.0.0" in out, err) == (0, True, "")
    assert sorted(path.name for path in lab.iterdir()) == ["pair.toml", "two.json", "two.safetensors"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "nothing to compose"),
        (["pair.toml", "high/low"], 2, "one .toml file, or references"),
        (["none.toml"], 3, "no such file"),
        (["broken.toml"], 4, "not TOML"),
        (["circle.toml"], 6, "in a cycle"),
        (["high/low", "high/low@1.0.0"], 6, "duplicate cell"),
        (["high/none"], 3, "no such cell"),
        (["model/pair"], 2, "registry.pull("),
        (["low"], 3, "unknown name"),
        (["high/low", "--name", "x"], 2, "--out"),
        (["high/low", "--out", "model.pt"], 2, ".safetensors"),
        (["high/low", "--out", "Model.safetensors"], 2, "[NAME]"),
        (["high/low", "--out", "x.safetensors", "--name", "../x"], 2, "name: "),
        (["high/low", "--out", "x.safetensors", "--version", "1"], 2, "version: "),
        (["high/low", "--out", "x.safetensors", "--description", "x" * 2001], 2, "description: "),
        (["high/low", "--out", "pair.toml/x.safetensors"], 8, "disk operation failed"),
        (["high/low", "--graph", "pair.toml/x.dot"], 8, "disk operation failed"),
        (["high/low", "--graph", "x.svg"], 2, "expected .mmd | .dot, got x.svg"),
        (["high/low", "--probe", "cats"], 2, "photos-64"),
        (["wiring.toml"], 6, "is coarser than that of"),
    ],
)
def test_what_cannot_be_composed(lab, capsys, words, code, says):
    (lab / "broken.toml").write_text("[cells")
    circle = FILE.replace('of = ["swap", "low"]', 'of = ["swap", "all"]')
    (lab / "circle.toml").write_text(circle)
    turned = FILE.replace('source = "noise"\ntarget = "low"', 'source = "low"\ntarget = "noise"')
    (lab / "wiring.toml").write_text(turned.replace('of = ["swap", "low"]', 'of = ["swap"]'))
    before = tree(lab)
    found, out, err = run(capsys, "compose", *words)
    assert (found, out) == (code, "")
    assert says in err
    assert tree(lab) == before


def test_every_error_of_compose_is_one_object(lab, capsys):
    code, out, _ = run(capsys, "compose", "none.toml", "--json")
    assert code == 3
    ANSWERS["error"].model_validate_json(out)
