"""``batteries encode`` and ``batteries reconstruct``, and what ``compose`` says of nodes."""

import json
import sys
from typing import get_args

import numpy as np
import pytest
from PIL import Image

import composer
from batteries.images.framing import Fit
from registry.answers.composition import Composed
from registry.answers.encoding import EncodeAnswer, ReconstructAnswer
from registry.cli import encode as commands
from tests.support.cells import publish
from tests.support.commands import answered, run
from tests.support.encoding import arrays, cells, pictures


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a registry and some pictures, in which commands run."""
    for cell in cells():
        publish(cell, tmp_path / "registry")
    (tmp_path / "pictures").mkdir()
    for n, picture in enumerate(pictures()):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{n}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BATTERIES_REGISTRY", str(tmp_path / "registry"))
    return tmp_path


REFS = ("mid/coarse", "high/fine")


@pytest.mark.parametrize(
    "images", [["pictures"], ["pictures/*.png"], [f"pictures/{n}.png" for n in range(7)]], ids=["folder", "glob", "files"]
)
def test_encode_is_composer_encode(place, capsys, images):
    words = ("encode", *REFS, *images, "--tokens", "M,omega", "--fit", "crop", "--out", "t.npz")
    answer = answered(capsys, EncodeAnswer, *words)
    assert (answer.path, answer.reused, answer.size) == ("t.npz", 0, (place / "t.npz").stat().st_size)
    composer.encode(
        cells()[:2], [*sorted((place / "pictures").iterdir())], place / "same.npz", tokens=["omega", "M"], fit="crop"
    )
    (mine, record), (same, _) = arrays(place / "t.npz"), arrays(place / "same.npz")
    assert all(np.array_equal(mine[name], same[name]) for name in same)
    assert record == answer.record.model_dump(mode="json")


def test_encode_prints_a_row_a_cell(place, capsys):
    code, out, err = run(capsys, "encode", *REFS, "pictures", "--fit", "pad", "--size", "32x24", "--out", "t.parquet")
    assert code == 0, err
    assert "mid/coarse" in out
    assert "84" in out  # 7 images of 4 x 3 patches
    assert err == "7 images: t.parquet\n"


def test_a_run_that_failed_goes_on(place, capsys):
    good = (place / "pictures" / "6.png").read_bytes()
    (place / "pictures" / "6.png").write_bytes(good[:50])
    words = ("encode", *REFS, "pictures", "--fit", "crop", "--batch", "2", "--out", "t.npz")
    code, _, err = run(capsys, *words)
    assert (code, "6.png" in err, "[IMAGE]" in err) == (2, True, True)
    (place / "pictures" / "6.png").write_bytes(good)
    assert run(capsys, *words)[2] == "7 images, 6 of them by an earlier run: t.npz\n"


def test_reconstruct_is_composer_reconstruct(place, capsys):
    words = ("reconstruct", *REFS, "pictures", "--fit", "crop")
    answer = answered(capsys, ReconstructAnswer, *words, "--out", "out")
    made = composer.reconstruct(cells()[:2], "pictures", place / "other", fit="crop")
    assert [row.errors for row in answer.images] == [found.errors for found in made.images]
    for row, found in zip(answer.images, made.images, strict=True):
        for name, path in row.files.items():
            assert (place / path).read_bytes() == found.files[name].read_bytes()
    code, out, _ = run(capsys, *words, "--out", "grid.png")
    assert code == 0
    assert "MSE high/fine" in out
    with Image.open(place / "grid.png") as picture:
        assert picture.format == "PNG"


def test_cell_files_among_references(place, capsys):
    path = cells()[2].write(place / "files")
    answer = answered(capsys, EncodeAnswer, "encode", "high/fine", path, "pictures", "--fit", "crop", "--out", "t.npz")
    assert [cell.name for cell in answer.record.cells] == ["high/fine", "mid/other"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["encode", "high/fine", "no.png", "--out", "t.npz"], 3, "NO_FILE"),
        (["encode", "high/fine", "no/*.png", "--out", "t.npz"], 3, "NO_IMAGES"),
        (["encode", "pictures", "--out", "t.npz"], 2, "NO_CELLS"),
        (["encode", "high/fine", "--out", "t.npz"], 2, "NO_CELLS"),
        (["encode", "high/fine", "pictures", "--out", "t.csv"], 2, "SUFFIX"),
        (["encode", "high/fine", "pictures", "--tokens", "alpha", "--out", "t.npz"], 2, "TOKENS"),
        (["encode", "high/fine", "pictures", "--size", "big", "--out", "t.npz"], 2, "SIZE"),
        (["encode", "high/fine", "pictures", "--fit", "turn", "--out", "t.npz"], 2, "crop"),
        (["encode", "high/fine", "pictures"], 2, "--out"),
        (["encode", "high/none", "pictures", "--out", "t.npz"], 3, "NO_CELL"),
        (["encode", "mid/coarse", "pictures/0.png", "--size", "12", "--out", "t.npz"], 2, "IMAGE_SIZE"),
        (["reconstruct", "high/fine", "pictures", "--out", "grid.gif"], 2, "SUFFIX"),
    ],
)
def test_what_cannot_be_is_refused(place, capsys, words, code, said):
    found, out, err = run(capsys, *words)
    assert (found, out) == (code, "")
    assert said in err
    assert sorted(path.name for path in place.iterdir()) == ["pictures", "registry"]


def test_without_pyarrow_nothing_is_fetched(place, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr(commands, "pull_cells", lambda *_, **__: pytest.fail("fetched"))
    code, _, err = run(capsys, "encode", "high/fine", "pictures", "--out", "t.parquet")
    assert (code, "svae-batteries[parquet]" in err) == (2, True)


def test_a_reference_that_is_a_path_too(place, capsys):
    (place / "high").mkdir()
    (place / "high" / "fine").mkdir()
    words = ("pictures", "--fit", "crop", "--out", "t.npz")
    code, _, err = run(capsys, "encode", "high/fine", *words)
    assert (code, "NO_CELLS" in err) == (2, True)
    answered(capsys, EncodeAnswer, "encode", "high/fine@1.0.0", *words)


def test_the_ways_to_fit_are_those_of_the_reader():
    choices, _ = get_args(get_args(commands.FitOption)[0])
    assert get_args(choices) == get_args(Fit)


WIRING = """
schema_version = "1.0"
output = "all"

[cells]
coarse = "mid/coarse"
fine = "high/fine"
other = "mid/other"

[nodes.swap]
kind = "relay"
source = "coarse"
target = "other"

[nodes.best]
kind = "route"
of = ["fine", "swap"]

[nodes.all]
kind = "parallel"
of = ["best", "other"]
"""


@pytest.mark.slow
def test_compose_says_what_its_nodes_do(place, capsys):
    (place / "wiring.toml").write_text(WIRING)
    answer = answered(capsys, Composed, "compose", "wiring.toml", "--probe", "noise16-64")
    figures = {node.name: node for node in answer.node_figures}
    assert {name: node.kind for name, node in figures.items()} == {"swap": "relay", "best": "route", "all": "parallel"}
    assert list(figures["best"].shares) == ["fine", "swap"]
    assert sum(figures["best"].shares.values()) == pytest.approx(1)
    assert figures["all"].mse is None
    errors = {row.cell: row.mse for row in answer.cells}
    assert figures["best"].mse <= min(errors["fine"], figures["swap"].mse) * (1 + 1e-5)
    code, out, _ = run(capsys, "compose", "wiring.toml", "--probe", "noise16-64")
    assert code == 0
    assert "share of regions" in out
    assert "%, swap" in out


@pytest.mark.slow
def test_cells_side_by_side_have_no_table_of_nodes(place, capsys):
    code, out, _ = run(capsys, "compose", *REFS, "--probe", "noise16-64", "--json")
    (node,) = json.loads(out)["node_figures"]
    assert (code, node["kind"], node["mse"]) == (0, "parallel", None)
    assert "share of regions" not in run(capsys, "compose", *REFS, "--probe", "noise16-64")[1]
