"""Reconstructions as pictures: a file for every image and cell, or all in one, with the errors of the container."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import composer
from batteries import CellSpec, InputScale
from batteries.errors import InputError, NotFoundError, PolicyError
from batteries.images import from_input, load
from composer.encoding import picture_grid
from composer.encoding.picture_files import PictureFolder, picture_of
from tests.support.cells import from_model, litter
from tests.support.encoding import SIZES, cells, container, pictures


@pytest.fixture(scope="module")
def model():
    return container()


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def turn(path, keep):
    """Turn a picture upside down, with or without what it says of itself."""
    with Image.open(path) as picture:
        text = PngInfo()
        if keep:
            text.add_text("svae-batteries", picture.info["svae-batteries"])
        picture.rotate(180).save(path, pnginfo=text)


def test_pictures_are_the_containers_reconstructions(model, tmp_path):
    made = composer.reconstruct(model, pictures(), tmp_path / "out", fit="crop", batch=1)
    assert made.path == tmp_path / "out"
    for picture, found in zip(pictures(), made.images, strict=True):
        with torch.no_grad():
            out = model(load(picture, cell=model, fit="crop"))
        assert [*found.errors.values()] == out.error[0].tolist()
        for name, path in found.files.items():
            wanted = ((out[name].recon[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255)
            assert np.array_equal(pixels(path), wanted.numpy().astype("uint8"))
            assert path.parent == tmp_path / "out" / name
    assert [found.image.size for found in made.images] == [*SIZES]


def test_the_input_scale_is_undone(tmp_path):
    cell = from_model(CellSpec(V=8, D=4, patch_size=4, hidden=8), 0, "scaled")
    scale = InputScale(mean=(0.2, 0.1, -0.3), std=(0.5, 0.4, 0.3))
    identity = cell.manifest.identity.model_copy(update={"input": scale})
    cell = type(cell).from_bytes(cell.to_bytes(), cell.manifest.model_copy(update={"identity": identity}), where="scaled")
    made = composer.reconstruct(cell, pictures([(8, 8)]), tmp_path)
    with torch.no_grad():
        recon = composer.compose(cell)(load(pictures([(8, 8)])[0], cell=cell)).recon[0]
    (path,) = made.images[0].files.values()
    assert np.array_equal(pixels(path), np.asarray(picture_of(from_input(recon, scale)[0])))
    composer.reconstruct(cell, pictures([(8, 8)]), tmp_path / "grid.png")
    wide = pixels(tmp_path / "grid.png")
    top = picture_grid.LINE + picture_grid.GAP
    assert np.abs(wide[top : top + 8, :8].astype(int) - pictures([(8, 8)])[0]).max() <= 1  # the original


def test_one_channel_makes_gray_pictures_and_two_make_none(tmp_path):
    gray = from_model(CellSpec(V=8, D=4, patch_size=4, hidden=8, channels=1), 0, "gray")
    made = composer.reconstruct(gray, [picture[..., 0] for picture in pictures([(8, 8)])], tmp_path)
    assert pixels(made.images[0].files["high/gray"]).shape == (8, 8)
    two = from_model(CellSpec(V=8, D=4, patch_size=4, hidden=8, channels=2), 0, "two")
    with pytest.raises(InputError, match="CHANNELS"):
        composer.reconstruct(two, torch.zeros(1, 2, 8, 8), tmp_path, scale="signed")


def test_what_is_there_of_the_same_is_not_made_again(model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    first = composer.reconstruct(model, pictures(), out, fit="crop", batch=2)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    again = composer.reconstruct(model, pictures(), out, fit="crop", batch=2)
    assert (again.reused, again.images) == (len(SIZES), first.images)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == times
    changed = first.images[3].files["high/fine"]
    good = changed.read_bytes()
    turn(changed, keep=False)
    first.images[4].files["high/fine"].unlink()
    again = composer.reconstruct(model, pictures(), out, fit="crop", batch=2)
    assert again.reused == len(SIZES) - 2
    assert changed.read_bytes() == good
    assert composer.reconstruct(model, pictures(), out, fit="crop", batch=2, fresh=True).reused == 0


@pytest.mark.parametrize("change", ["pixels", "another image", "another cell", "not a picture", "other text"])
def test_what_is_there_of_something_else_is_made_again(model, tmp_path, change):
    source = pictures([(16, 16)])
    made = composer.reconstruct(model, source, tmp_path / "out")
    path = made.images[0].files["high/fine"]
    good = path.read_bytes()
    if change == "pixels":
        turn(path, keep=True)
    elif change == "another image":
        composer.reconstruct(model, pictures([(16, 16)], seed=5), tmp_path / "out")
    elif change == "another cell":
        path.write_bytes(made.images[0].files["mid/coarse"].read_bytes())
    elif change == "not a picture":
        path.write_bytes(b"words")
    else:
        path.write_bytes(good.replace(b'"error"', b'"terror'))
    assert path.read_bytes() != good
    assert composer.reconstruct(model, source, tmp_path / "out").reused == 0
    assert path.read_bytes() == good


def test_a_run_that_stops_keeps_whole_pictures(model, tmp_path):
    def stop(done):
        raise KeyboardInterrupt("stopped by a test")

    with pytest.raises(KeyboardInterrupt, match="stopped by a test"):
        composer.reconstruct(model, pictures(), tmp_path / "out", fit="crop", batch=2, progress=stop)
    assert litter(tmp_path) == []
    assert 1 <= composer.reconstruct(model, pictures(), tmp_path / "out", fit="crop", batch=2).reused < len(SIZES)


def test_names_are_fit_for_a_folder_and_each_is_used_once(tmp_path):
    folder = PictureFolder(tmp_path, ["low/a", "../../b", "LOW/A", ""])
    names = ["a/x.png", "b/x.png", "X.jpg", "x-2.png", "..", "images[3]", "é" * 200, "", "\udcff.png"]
    found = [path for name in names for path in folder.pictures(name, ["key"] * 4)]
    paths = [one.path for one in found]
    assert len({str(path).casefold() for path in paths}) == len(paths)
    assert all(tmp_path in path.parents and ".." not in path.parts for path in paths)
    assert [path.path.name for path in found[::4]][:6] == [
        "x.png",
        "x-2.png",
        "X-3.png",
        "x-2-2.png",
        "unnamed.png",
        "images-3.png",
    ]
    assert max(len(path.name.encode()) for path in paths) < 200


def test_a_grid_has_a_row_an_image_and_a_column_a_cell(model, tmp_path):
    made = composer.reconstruct(model, pictures(), tmp_path / "grid.png", fit="crop")
    sheet = pixels(tmp_path / "grid.png")
    heights = [found.image.framed[0] for found in made.images]
    assert sheet.shape[0] == picture_grid.LINE + sum(height + picture_grid.GAP + picture_grid.LINE for height in heights)
    assert all(found.files == {} for found in made.images)
    wide = (sheet.shape[1] + picture_grid.GAP) // 4
    apart = composer.reconstruct(model, pictures(), tmp_path / "out", fit="crop")
    top = picture_grid.LINE + picture_grid.GAP
    for picture, found, height in zip(pictures(), apart.images, heights, strict=True):
        width = found.image.framed[1]
        assert np.array_equal(sheet[top : top + height, :width], picture[:height, :width])
        for column, path in enumerate(found.files.values(), start=1):
            assert np.array_equal(sheet[top : top + height, column * wide : column * wide + width], pixels(path))
        labels = sheet[top + height : top + height + picture_grid.LINE]
        assert (labels < 128).any()
        top += height + picture_grid.LINE + picture_grid.GAP


def test_a_grid_too_large_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(picture_grid, "MAX_PIXELS", 10_000)
    with pytest.raises(PolicyError, match="TOO_LARGE"):
        composer.reconstruct(model, pictures(), tmp_path / "grid.png", fit="crop")
    assert list(tmp_path.iterdir()) == []


def test_nan_is_black_and_values_beyond_are_cut():
    values = torch.tensor([[[-9.0, -1.0, 0.0, 1.0, 9.0, float("nan")]]])
    assert np.asarray(picture_of(values)).tolist() == [[0, 0, 128, 255, 255, 0]]


@pytest.mark.parametrize(
    ("name", "code"), [("grid.jpg", "SUFFIX"), ("grid.TIFF", "SUFFIX"), ("file", "FOLDER"), (None, "BAD_PATH")]
)
def test_places_that_are_refused(model, tmp_path, name, code):
    (tmp_path / "file").write_text("there")
    with pytest.raises(InputError, match=rf"\[{code}\]"):
        composer.reconstruct(model, pictures(), name and tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_no_image_is_refused(tmp_path):
    with pytest.raises(NotFoundError, match="NO_IMAGES"):
        composer.reconstruct(cells(), [], tmp_path / "out")
    assert not Path(tmp_path / "out").exists()
