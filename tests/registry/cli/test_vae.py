"""The commands of battery VAEs: train, sample, show, and the page; and what they refuse."""

import json

import pytest
from PIL import Image

import composer
import registry
from registry.answers.vae import VAES
from registry.cli import main
from tests.support import vaes
from tests.support.cells import publish
from tests.support.commands import answered, run

TRAIN = ("--noise", "--steps", "2", "--size", "16", "--batch", "1", "--every", "1", "--bottleneck", "4")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vaes") / "registry"
    for name in ("fine-a", "fine-b"):
        publish(vaes.cells()[name], folder)
    return folder


@pytest.fixture(scope="module")
def trained(shelf):
    path = shelf.parent / "pair.safetensors"
    words = ["vae", "train", "high/fine-a", "high/fine-b", *TRAIN, "--out", path, "--registry", shelf]
    assert main([*map(str, words)]) == 0
    return path


@pytest.mark.slow
def test_trained_published_pulled_and_shown(shelf, trained, capsys, tmp_path):
    manifest = json.loads(trained.with_suffix(".json").read_text())
    assert (manifest["identity"]["name"], manifest["steps"], manifest["cells"]) == ("pair", 2, 2)
    assert manifest["identity"]["license"] == "Apache-2.0"
    registry.publish(trained, shelf)
    (back,) = registry.pull("vae/pair", registry=shelf)
    assert vaes.same(back, composer.load(trained))
    page = tmp_path / "pair.html"
    words = ["vae", "show", "vae/pair", "--registry", shelf, "--probe", "noise16-64", "--html", page]
    shown = answered(capsys, VAES["vae-show"], *words)
    assert (len(shown.reading.sectors), shown.history[0].steps, shown.page) == (2, 2, str(page))
    assert [parent.cell for parent in shown.parents] == ["high/fine-a", "high/fine-b"]
    text = page.read_text()
    for part in ("high/fine-a", "which sector speaks where", "exact: 0.9231", "data:image/png", "active units", "ELBO"):
        assert part in text, part
    assert "<script" not in text
    _, out, _ = run(capsys, *words)
    assert "high/fine-b" in out
    assert page.read_text() == text  # the same bytes


@pytest.mark.slow
def test_a_training_goes_on_from_a_file_and_resumes_from_its_folder(trained, capsys, tmp_path):
    words = ["vae", "train", trained, *TRAIN, "--out", tmp_path / "more.safetensors", "--run", tmp_path / "run"]
    first = answered(capsys, VAES["vae-train"], *words)
    again = answered(capsys, VAES["vae-train"], *words)
    assert first == again
    assert [one.steps for one in composer.read(tmp_path / "more.safetensors").history] == [2, 2]


@pytest.mark.slow
def test_samples_are_pictures_determined_by_their_seed(trained, capsys, tmp_path):
    words = ["vae", "sample", trained, "--count", "2", "--size", "16", "--seed", "3"]
    found = answered(capsys, VAES["vae-sample"], *words, "--out", tmp_path / "a")
    for path in found.images:
        with Image.open(path) as picture:
            assert picture.size == (16, 16)
    answered(capsys, VAES["vae-sample"], *words, "--out", tmp_path / "b")
    names = ("sample-1.png", "sample-2.png")
    first, second = ([(tmp_path / side / name).read_bytes() for name in names] for side in "ab")
    assert first == second
    assert first[0] != first[1]


REFUSED = {
    "one cell": (["train", "high/fine-a", *TRAIN, "--out", "x.safetensors"], 2, "ONE_SECTOR"),
    "noise and photographs": (["train", "high/fine-a", *TRAIN, "--photos", "x", "--out", "x.safetensors"], 2, "USAGE"),
    "neither": (["train", "high/fine-a", "--steps", "1", "--out", "x.safetensors"], 2, "USAGE"),
    "another suffix": (["train", "high/fine-a", *TRAIN, "--out", "x.bin"], 2, "SUFFIX"),
    "a rate of zero": (["train", "high/fine-a", *TRAIN, "--rate", "0", "--out", "x.safetensors"], 2, "USAGE"),
    "no such cell": (["train", "high/none", "high/fine-a", *TRAIN, "--out", "x.safetensors"], 3, "NO_CELL"),
    "no such VAE": (["show", "vae/none"], 3, "NO_VAE"),
    "a cell in place of a VAE": (["show", "high/fine-a"], 2, "VAE"),
    "no such probe": (["show", "vae/none", "--probe", "nothing"], 2, "NO_PROBE"),
    "too many pixels": (["sample", "vae/none", "--out", "samples", "--size", "100000"], 2, "SIZE"),
    "a file in place of a folder": (["sample", "vae/none", "--out", f"{__file__}/samples"], 2, "NOT_A_FOLDER"),
    "a place that cannot be written": (
        ["train", "high/fine-a", "high/fine-b", *TRAIN, "--out", f"{__file__}/x.safetensors"],
        8,
        "DISK",
    ),
    "no folder for a page": (["show", "vae/none", "--html", "missing/page.html"], 2, "NO_FOLDER"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(shelf, capsys, tmp_path, monkeypatch, case):
    words, code, name = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    assert main(["vae", *words, "--registry", str(shelf), "--json"]) == code
    assert json.loads(capsys.readouterr().out)["error"]["code"] == name
    assert list(tmp_path.iterdir()) == []


def test_a_cell_given_twice_is_refused_with_a_remedy_that_this_command_has(shelf, capsys, tmp_path):
    words = ["vae", "train", "high/fine-a", "high/fine-a@1.0.0", *TRAIN, "--out", tmp_path / "v.safetensors"]
    code, _, err = run(capsys, *words, "--registry", shelf)
    assert (code, "TWICE" in err, "Leave one of them out." in err) == (6, True, True)


@pytest.mark.parametrize("command", [("compose", "low/fresnel-64"), ("vae", "train", "low/fresnel-64", *TRAIN)])
def test_a_file_whose_name_no_artifact_can_have_is_refused_by_it(capsys, tmp_path, command):
    code, _, err = run(capsys, *command, "--out", tmp_path / "Bad Name!.safetensors")
    assert (code, "NAME" in err, "'Bad Name!'" in err, "--name" in err) == (2, True, True, True)


@pytest.mark.parametrize("option", [("--version", "1.x"), ("--name", "Bad Name!"), ("--rate", "nan")])
def test_no_words_of_pydantic_come_before_those_of_a_check(capsys, tmp_path, option):
    words = ["vae", "train", "low/fresnel-64", *TRAIN, "--out", tmp_path / "v.safetensors"]
    code, _, err = run(capsys, *words, *option)
    assert (code, "USAGE" in err, "Value error" in err) == (2, True, False)
