"""The reader of images: what it takes, on which scale, and what it refuses with which next step."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import batteries
from batteries import CellSpec, InputScale, PatchSVAE, untrained
from batteries.cell.input_scale import IMAGENET
from batteries.data.probes import photographs
from batteries.errors import InputError, NotFoundError
from batteries.images import load as images
from batteries.images import stream
from batteries.images.framing import framed
from composer import compose
from tests.compatibility import refused, works
from tests.support.cells import tiny

SPEC = CellSpec.preset("high")  # patches of 4
CHELSEA = next(path for path in photographs() if path.stem == "chelsea")  # 300 x 451, RGB


@pytest.fixture(scope="module")
def picture():
    with Image.open(CHELSEA) as file:
        return file.convert("RGB").crop((100, 60, 164, 108))  # 48 high, 64 wide


def ours(picture):
    """The reading that all others are compared with."""
    return (torch.from_numpy(np.array(picture)).permute(2, 0, 1).double() / 127.5 - 1).float()[None]


def close(found, expected, to=1e-6):
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= to


ARRAYS = {
    "HWC bytes": lambda a: (a, {}),
    "HWC bytes, read only": lambda a: (np.broadcast_to(a, a.shape), {}),
    "HWC bytes, backwards in memory": lambda a: (a[::-1].copy()[::-1], {}),
    "CHW bytes": lambda a: (a.transpose(2, 0, 1), {}),
    "BHWC bytes": lambda a: (a[None], {}),
    "BCHW bytes": lambda a: (a[None].transpose(0, 3, 1, 2), {}),
    "unit float64": lambda a: (a / 255.0, {"scale": "unit"}),
    "unit float16": lambda a: ((a / 255.0).astype(np.float16), {"scale": "unit"}),
    "signed big-endian": lambda a: ((a / 127.5 - 1).astype(">f4"), {"scale": "signed"}),
    "byte float": lambda a: (a.astype(np.float32), {"scale": "byte"}),
    "byte int64": lambda a: (a.astype(np.int64), {"scale": "byte"}),
    "noise": lambda a: (a / 127.5 - 1, {"scale": "noise"}),
    "uint16": lambda a: (a.astype(np.uint16) * 257, {}),
    "RGBA, opaque": lambda a: (np.dstack([a, np.full(a.shape[:2], 255, np.uint8)]), {}),
    "tensor HWC bytes": lambda a: (torch.from_numpy(a.copy()), {}),
    "tensor BCHW unit": lambda a: (torch.from_numpy(a / 255.0).permute(2, 0, 1)[None], {"scale": "unit"}),
    "tensor bfloat16": lambda a: (torch.from_numpy(a / 127.5 - 1).bfloat16(), {"scale": "signed"}),
    "tensor with gradient": lambda a: (torch.from_numpy(a / 127.5 - 1).requires_grad_(), {"scale": "signed"}),
    "a list of one": lambda a: ([a], {}),
    "a generator": lambda a: ((one for one in (a,)), {}),
}


@works("Images", "NumPy arrays and tensors of one picture or a batch, channels first or last")
@works("Images", "Values of uint8, uint16, float16, bfloat16, float32, float64, with their scale said where it is not plain")
@pytest.mark.parametrize("form", ARRAYS)
def test_arrays_of_all_forms_give_the_same_images(form, picture):
    given, options = ARRAYS[form](np.array(picture))
    close(images(given, **options), ours(picture), 0.01 if form.endswith("float16") else 1e-6)


MODES = {
    "L": lambda p: p.convert("L"),
    "LA": lambda p: p.convert("LA"),
    "1": lambda p: p.convert("1"),
    "P": lambda p: p.convert("P"),
    "RGBA": lambda p: p.convert("RGBA"),
    "CMYK": lambda p: p.convert("CMYK"),
    "YCbCr": lambda p: p.convert("YCbCr"),
    "I;16": lambda p: Image.fromarray(np.array(p.convert("L")).astype(np.uint16) * 257),
}


@works("Images", "Pillow pictures of modes 1, L, LA, P, RGB, RGBA, CMYK, YCbCr, I;16")
@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_all_modes_are_read_as_pillow_shows_them(mode, picture):
    shown = MODES[mode](picture)
    plain = picture.convert("L") if mode.startswith("I") else shown
    close(images(shown), ours(plain.convert("RGB")), 0.01 if mode in ("P", "I;16") else 1e-6)


@works("Images", "Files, folders with subfolders, glob patterns, and lists that mix them with pictures and arrays")
def test_files_folders_patterns_and_lists(tmp_path, picture, monkeypatch):
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "deep/a.png", "c.bmp"):
        picture.save(tmp_path / name)
    (tmp_path / ".hidden").write_text("no image")
    one = ours(picture)
    assert [Path(read.name).name for read in stream(tmp_path)] == ["b.png", "c.bmp", "a.png"]  # by path
    for source, count in (
        (tmp_path / "b.png", 1),
        (str(tmp_path), 3),
        (str(tmp_path / "*.png"), 1),
        (tmp_path / "**" / "*.png", 2),
        ([tmp_path / "b.png", picture, np.array(picture), [tmp_path]], 6),
    ):
        close(images(source), one.expand(count, -1, -1, -1))
    monkeypatch.chdir(tmp_path)
    close(images("b.png"), one)


@works("Images", "EXIF orientation")
def test_exif_turns_files_and_pictures(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    close(images(tmp_path / "a.png"), ours(picture))
    with Image.open(tmp_path / "a.png") as opened:
        close(images(opened), ours(picture))


def test_alpha_is_laid_on_white_alike_in_files_and_arrays(tmp_path, picture):
    clear = picture.copy()
    clear.putalpha(Image.linear_gradient("L").resize(picture.size))
    clear.save(tmp_path / "a.png")
    found = images(np.array(clear))
    close(images(tmp_path / "a.png"), found, 0.012)
    assert found[..., 0, :].min() > 0.9  # clear at the top
    close(images(np.array(clear) / 255, scale="unit"), found)


@works("Images", "Animations: the first picture")
def test_of_an_animation_the_first_picture_is_taken(tmp_path, picture):
    frames = [picture.convert("P"), picture.transpose(0).convert("P")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert images(tmp_path / "a.gif").shape == (1, 3, 48, 64)


@works("Images", "A cell, its manifest, its spec, a model or a container says channels, patch and input scale")
def test_the_cell_says_channels_patch_and_scale(picture):
    cell = tiny()  # one channel, patches of one pixel
    gray = np.array(picture.convert("L"))
    for form in (cell, cell.manifest, cell.spec, PatchSVAE.from_cell(cell), compose(cell)):
        assert images(gray, cell=form).shape == (1, 1, 48, 64)
        with pytest.raises(InputError, match="1 channels"):
            images(picture, cell=form)
    normalised = PatchSVAE(SPEC)
    normalised.scale = IMAGENET
    close(images(picture, cell=normalised), batteries.images.to_input(ours(picture), IMAGENET))
    with pytest.raises(InputError) as caught:
        images(picture, cell="low/fresnel-64")
    assert caught.value.code == "CELL"


def test_nothing_is_cropped_padded_or_resized_without_a_word(picture):
    spec = CellSpec.preset("low")  # patches of 16
    odd = picture.crop((0, 0, 50, 40))
    with pytest.raises(InputError, match="fit='crop' cuts to multiples of 16") as caught:
        images(odd, cell=spec)
    assert caught.value.code == "IMAGE_SIZE"
    close(images(odd, cell=spec, fit="crop"), ours(odd)[..., 4:36, 1:49])
    padded = images(odd, cell=spec, fit="pad")
    assert padded.shape == (1, 3, 48, 64)
    close(padded[..., 4:44, 7:57].contiguous(), ours(odd))
    assert (padded[..., :4, :] == padded[..., 4:5, :]).all()
    assert images(odd, cell=spec, fit="resize", size=32).shape == (1, 3, 32, 32)
    assert images([odd, picture], fit="crop", size=(40, 48)).shape == (2, 3, 40, 48)
    whole = images(Image.new("RGB", (300, 100), (255, 0, 0)), fit="resize", size=(64, 64))
    assert torch.allclose(whole, whole[..., :1, :1].expand_as(whole))
    assert [read.size for read in stream(odd, cell=spec, fit="crop")] == [(40, 50)]


def test_reading_holds_one_picture_at_a_time(picture):
    made = []

    def pictures():
        for number in range(5):
            made.append(number)
            yield picture

    reading = stream(pictures())
    next(reading)
    assert made == [0]
    assert len(list(reading)) == 4


def scaled(scale):
    model = PatchSVAE(SPEC)
    model.scale = scale
    return model


def endless(*before):
    whole = list(before)
    whole.append(whole)
    return whole


REFUSED = {
    "float without scale": (lambda a: a / 255.0, {}, "IMAGE_SCALE", "'unit'"),
    "integers without scale": (lambda a: a.astype(np.int32), {}, "IMAGE_SCALE", "byte"),
    "unit out of range": (lambda a: a.astype(float), {"scale": "unit"}, "IMAGE_SCALE", "0 to 1"),
    "signed out of range": (lambda a: a.astype(float), {"scale": "signed"}, "IMAGE_SCALE", "-1 to 1"),
    "bytes out of range": (lambda a: a.astype(int) - 1000, {"scale": "byte"}, "IMAGE_SCALE", "0 to 255"),
    "bytes said to be unit": (lambda a: a, {"scale": "unit"}, "IMAGE_SCALE", "0..255"),
    "no such scale": (lambda a: a, {"scale": "imagenet"}, "IMAGE_SCALE", "'noise'"),
    "NaN": (lambda a: a * np.nan, {"scale": "noise"}, "NOT_FINITE", ""),
    "beyond float32": (lambda a: np.full(a.shape, 1e300), {"scale": "noise"}, "NOT_FINITE", "float32"),
    "beyond float32, negative": (
        lambda a: torch.full((3, 8, 8), -1e39, dtype=torch.float64),
        {"scale": "noise"},
        "NOT_FINITE",
        "",
    ),
    "beyond float32 on the cell's scale": (
        lambda a: np.full(a.shape, 3e38),
        {"scale": "noise", "cell": scaled(IMAGENET)},
        "NOT_FINITE",
        "",
    ),
    "float8 without scale": (lambda a: torch.from_numpy(a / 255).to(torch.float8_e4m3fn), {}, "IMAGE_SCALE", "'unit'"),
    "uint32 without scale": (lambda a: a.astype(np.uint32), {}, "IMAGE_SCALE", "byte"),
    "bool": (lambda a: a > 5, {}, "IMAGE_DTYPE", "mask"),
    "complex": (lambda a: a * 1j, {}, "IMAGE_DTYPE", ""),
    "objects": (lambda a: a.astype(object), {}, "IMAGE_DTYPE", ""),
    "texts": (lambda a: np.array([["a", "b"]]), {}, "IMAGE_DTYPE", "list(array.flat)"),
    "an array of paths": (lambda a: np.array(["a.png", "b.png"]), {}, "IMAGE_DTYPE", "list(array)"),
    "an array of path objects": (lambda a: np.array([Path("a.png")]), {}, "IMAGE_DTYPE", "list(array)"),
    "an array of bytes": (lambda a: np.array([b"a.png"]), {}, "IMAGE_DTYPE", "list(array.astype(str))"),
    "sparse": (lambda a: torch.from_numpy(a.astype(np.float32)).to_sparse(), {"scale": "byte"}, "IMAGE_DTYPE", "to_dense"),
    "three either way": (lambda a: a[:3].transpose(2, 0, 1)[..., :3], {}, "IMAGE_SHAPE", "layout='channels first'"),
    "gray in a batch": (lambda a: np.zeros((9, 48, 64), np.uint8), {}, "IMAGE_SHAPE", "images[:, None]"),
    "one axis": (lambda a: a[0, :, 0], {}, "IMAGE_SHAPE", "(H, W)"),
    "five axes": (lambda a: a[None, None], {}, "IMAGE_SHAPE", ""),
    "empty": (lambda a: a[:0], {}, "IMAGE_SHAPE", "no pixels"),
    "noise with alpha": (lambda a: np.dstack([a, a[..., :1]]) / 64.0, {"scale": "noise"}, "IMAGE_SHAPE", "3 channels"),
    "bytes of a file": (lambda a: b"\x89PNG", {}, "IMAGES", "io.BytesIO"),
    "a file object": (lambda a: io.BytesIO(b"two\nlines"), {}, "IMAGES", "Instead of a file object, give its path"),
    "an empty file object": (lambda a: io.BytesIO(), {}, "IMAGES", "a file object"),
    "a list that contains itself": (lambda a: endless(), {}, "IMAGES", "contains itself"),
    "a list that contains itself, after a picture": (lambda a: endless(a), {}, "IMAGES", "contains itself"),
    "a mapping": (lambda a: {"image": a}, {}, "IMAGES", ""),
    "a number": (lambda a: [a, 3], {}, "IMAGES", "images[1]"),
    "an empty text": (lambda a: "", {}, "IMAGES", ""),
    "a probe": (lambda a: batteries.probe("noise16-64"), {}, "IMAGES", ".images"),
    "no such fit": (lambda a: a, {"fit": "stretch"}, "FIT", "resize"),
    "no such size": (lambda a: a, {"size": (3, 0)}, "SIZE", ""),
    "a size that is a truth": (lambda a: a, {"size": True}, "SIZE", ""),
    "a size that is NumPy's truth": (lambda a: a, {"size": np.True_}, "SIZE", ""),
    "a size that is a tensor's truth": (lambda a: a, {"size": torch.tensor(True)}, "SIZE", ""),
    "a size that is no integer": (lambda a: a, {"size": np.float64(32)}, "SIZE", ""),
    "three sides": (lambda a: a, {"size": (8, 8, 8)}, "SIZE", ""),
    "no such layout": (lambda a: a, {"layout": "HWC"}, "LAYOUT", "channels last"),
    "resize to nothing": (lambda a: a, {"fit": "resize"}, "SIZE", "size=(height, width)"),
    "another size": (lambda a: a, {"size": 32}, "IMAGE_SIZE", "fit='crop'"),
    "too small to crop": (lambda a: a, {"size": 128, "fit": "crop"}, "IMAGE_SIZE", "fit='pad'"),
    "too large to pad": (lambda a: a, {"size": 32, "fit": "pad"}, "IMAGE_SIZE", "fit='crop'"),
    "two sizes": (lambda a: [a, a[:40]], {}, "IMAGE_SIZES", "size=(height, width)"),
    "size off the patch": (lambda a: a, {"size": 50, "cell": SPEC, "fit": "crop"}, "IMAGE_SIZE", "size=48"),
}


@refused("Images", "Floating-point pixels whose scale is not said", "IMAGE_SCALE")
@refused("Images", "A shape that can be read channels first and channels last", "IMAGE_SHAPE")
@refused("Images", "Complex, boolean, sparse and object arrays as images", "IMAGE_DTYPE")
@refused("Images", "Pictures of different sizes in one batch", "IMAGE_SIZES")
@pytest.mark.parametrize("case", REFUSED)
def test_what_has_two_readings_or_none_is_refused_with_the_next_step(case, picture):
    make, options, code, words = REFUSED[case]
    with pytest.raises(InputError) as caught:
        images(make(np.array(picture)), **options)
    assert caught.value.code == code
    assert words in str(caught.value)


class Place:
    """A path of another library."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


@works("Images", "Paths of other libraries: any os.PathLike")
def test_every_path_is_a_path(tmp_path, picture):
    picture.save(tmp_path / "a.png")
    with os.scandir(tmp_path) as entries:
        for path in (*entries, Place(str(tmp_path / "a.png")), Place(os.fsencode(tmp_path / "a.png")), Place(str(tmp_path))):
            close(images(path), ours(picture))
    with pytest.raises(InputError) as caught:
        images(Place(""))
    assert caught.value.code == "IMAGES"


@pytest.mark.parametrize("whole", [np.int64, np.uint8, np.array, torch.tensor])
def test_a_size_may_be_an_integer_of_any_library(whole, picture):
    found = images(picture, size=whole(32), fit="crop")
    assert torch.equal(found, images(picture, size=32, fit="crop"))
    assert torch.equal(found, images(picture, size=(whole(32), 32), fit="crop"))


@works("Images", "Pillow pictures of 32-bit integers and floating-point, modes I and F, with their scale said")
@refused("Images", "Pillow pictures of 32-bit integers and floating-point whose scale is not said", "IMAGE_SCALE")
def test_pictures_of_32_bits_have_no_scale_of_their_own(tmp_path, picture):
    gray = picture.convert("L")
    expected = ours(gray.convert("RGB"))
    Image.fromarray(np.array(gray).astype(np.int32)).save(tmp_path / "a.tif")
    for source in (gray.convert("I"), gray.convert("F"), tmp_path / "a.tif"):
        close(images(source, scale="byte"), expected)
        with pytest.raises(InputError) as caught:
            images(source)
        assert caught.value.code == "IMAGE_SCALE"
    with pytest.raises(InputError, match="0 to 1"):
        images(gray.convert("I"), scale="unit")
    edge = Image.fromarray(np.array([[-(2**24), 2**24 - 1], [0, 2**24]], np.int32))
    assert images(edge, scale="noise")[0, 0].tolist() == np.asarray(edge).tolist()
    for wide in (2**24 + 1, -(2**24) - 1, 2**31 - 1):
        with pytest.raises(InputError, match="float32 is exact") as caught:
            images(Image.fromarray(np.full((8, 8), wide, np.int32)), scale="noise")
        assert caught.value.code == "IMAGE"


@works("Images", "16-bit gray PNG, TIFF and PGM files")
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.ppm"])
def test_files_of_16_bits_say_their_scale(name, tmp_path, picture):
    gray = picture.convert("L")
    Image.fromarray(np.array(gray).astype(np.uint16) * 257).save(tmp_path / name)
    close(images(tmp_path / name), ours(gray.convert("RGB")))
    with Image.open(tmp_path / name) as opened:
        close(images(opened), ours(gray.convert("RGB")))


@refused("Images", "A batch of no pictures", "NO_IMAGES")
@pytest.mark.parametrize("empty", [np.zeros((0, 8, 8, 3)), torch.zeros(0, 3, 8, 8), [np.zeros((0, 3, 8, 8), np.uint8)]])
def test_an_empty_batch_has_no_images(empty):
    with pytest.raises(NotFoundError, match="no images") as caught:
        images(empty)
    assert (caught.value.code, caught.value.remedy) == ("NO_IMAGES", None)


def test_an_open_file_is_refused_with_a_step_that_works():
    with CHELSEA.open("rb") as file, pytest.raises(InputError, match="BufferedReader") as caught:
        images([CHELSEA, file])
    assert (caught.value.code, caught.value.where) == ("IMAGES", "images[1]")
    with CHELSEA.open("rb") as file, Image.open(file) as opened:
        assert torch.equal(images(opened), images(CHELSEA))


def test_a_layout_decides_between_two_readings():
    square = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    first, last = images(square, layout="channels first"), images(square, layout="channels last")
    assert torch.equal(first[0], torch.from_numpy(square) / 127.5 - 1)
    assert torch.equal(last[0], (torch.from_numpy(square) / 127.5 - 1).permute(2, 0, 1))


@refused("Images", "A file that is damaged, cut short or no image", "IMAGE")
def test_files_that_are_no_images_are_named(tmp_path, picture):
    picture.save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    for name, data in (("cut.png", whole[: len(whole) // 2]), ("words.png", b"hello"), ("empty.jpg", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=name) as caught:
            images([tmp_path / "good.png", tmp_path / name])
        assert caught.value.code == "IMAGE"
        (tmp_path / name).unlink()
    for name in ("notes.txt", "data.csv"):
        (tmp_path / name).write_text("no image")
    with pytest.raises(InputError, match=r"data\.csv, notes\.txt") as caught:
        images(tmp_path)
    assert "*.png" in caught.value.remedy


@refused("Images", "A picture of more than 2^27 pixels", "IMAGE")
def test_a_picture_of_too_many_pixels_is_refused_unread(tmp_path, monkeypatch):
    Image.new("1", (20000, 9000)).save(tmp_path / "bomb.png")
    with pytest.raises(InputError) as caught:
        images(tmp_path / "bomb.png")
    assert caught.value.code == "IMAGE"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # a user's own setting does not lift the bound
    with pytest.raises(InputError, match="20000 x 9000 pixels"):
        images(tmp_path / "bomb.png")


@pytest.mark.parametrize("source", ["missing.png", "nowhere/*.png", "", [], "empty"])
def test_nothing_to_read_is_said(tmp_path, source):
    (tmp_path / "empty").mkdir()
    given = source if source == [] else tmp_path / source if source else tmp_path / "empty" / "*"
    with pytest.raises(NotFoundError) as caught:
        images(given)
    assert caught.value.code == ("NO_FILE" if source == "missing.png" else "NO_IMAGES")
    assert caught.value.exit_code == 3


def test_a_container_takes_what_was_read_for_it(picture):
    model = untrained(SPEC, 0)
    batch = images([picture, picture.transpose(0)], cell=model)
    assert model(batch).recon.shape == batch.shape


def test_framing_never_moves_a_picture_that_fits():
    image = torch.rand(3, 16, 32)
    for fit in (None, "crop", "pad"):
        assert torch.equal(framed(image, 16, None, fit, "here"), image)


def test_the_scale_of_the_reader_is_the_scale_of_the_photographs():
    assert batteries.images.image_reader.Form().scale == InputScale()
