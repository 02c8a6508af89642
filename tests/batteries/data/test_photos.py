"""Photographs from folders: formats, orientation, what cannot be read, crops."""

import errno
import os
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from batteries.data.photos import read_photos, to_tensor
from batteries.errors import InputError, NotFoundError, StoreError
from batteries.images.decoding import read_image


def picture(width=80, height=60):
    """Red grows to the right, green downwards."""
    image = Image.new("RGB", (width, height))
    image.putdata([(x * 255 // (width - 1), y * 255 // (height - 1), 40) for y in range(height) for x in range(width)])
    return image


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp", "gif", "ppm"])
def test_common_formats(tmp_path, suffix):
    picture().save(tmp_path / f"a.{suffix}")
    photos = read_photos(tmp_path)
    assert photos.names == (f"a.{suffix}",)
    assert photos.pyramids[0][0].shape == (3, 60, 80)
    assert photos.crops(4, 32, 0).shape == (4, 3, 32, 32)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    turned = picture()
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)  # the transpose that undoes what EXIF will do
    if back is not None:
        turned = turned.transpose(Image.Transpose(back))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned.save(tmp_path / "a.png", exif=exif)
    assert torch.equal(to_tensor(read_image(tmp_path / "a.png")), to_tensor(picture()))


def test_grey_palette_and_transparent_images_become_rgb(tmp_path):
    picture().convert("L").save(tmp_path / "grey.png")
    picture().convert("P").save(tmp_path / "palette.png")
    Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "grey.png").mode == "RGB"
    assert read_image(tmp_path / "palette.png").mode == "RGB"
    assert read_image(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_are_scaled_and_thirty_two_are_skipped(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(ramp.astype(np.int32)).save(tmp_path / "integers.tif")
    photos = read_photos(tmp_path)
    assert photos.names == ("deep.png",)
    assert [(one.path.name, "no scale" in one.reason) for one in photos.skipped] == [
        ("float.tif", True),
        ("integers.tif", True),
    ]
    assert photos.pyramids[0][0].double().mean().item() == pytest.approx(127, abs=1)


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are not Unicode")
def test_a_file_name_that_is_not_unicode_is_skipped(tmp_path):
    picture().save(tmp_path / "good.png")
    os.link(tmp_path / "good.png", os.fsencode(tmp_path) + b"/b\xff.png")
    photos = read_photos(tmp_path)
    assert photos.names == ("good.png",)
    assert "not Unicode" in photos.skipped[0].reason


def test_what_cannot_be_read_is_named_counted_and_skipped(tmp_path):
    picture().save(tmp_path / "good.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff not really")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "notes.txt").write_text("not a photograph")
    photos = read_photos(tmp_path)
    assert photos.names == ("good.png",)
    assert [skipped.path.name for skipped in photos.skipped] == ["broken.jpg", "cut.png"]
    assert all(skipped.reason for skipped in photos.skipped)


def test_a_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(NotFoundError, match="no readable photograph") as caught:
        read_photos(tmp_path)
    assert caught.value.exit_code == 3
    with pytest.raises(NotFoundError, match="no such folder"):
        read_photos(tmp_path / "missing")


def test_places_are_folders_or_patterns_and_the_digest_covers_their_bytes(tmp_path):
    (tmp_path / "deep").mkdir()
    picture().save(tmp_path / "deep" / "a.png")
    picture(90, 70).save(tmp_path / "b_by_me.png")
    both = read_photos(tmp_path / "deep", tmp_path / "*_by_*.png")
    assert both.names == ("a.png", "b_by_me.png")
    assert both.digest == read_photos(tmp_path / "deep", tmp_path / "*_by_*.png").digest
    picture(90, 71).save(tmp_path / "b_by_me.png")
    assert both.digest != read_photos(tmp_path / "deep", tmp_path / "*_by_*.png").digest


def test_crops_are_seeded_scaled_and_in_range(tmp_path):
    picture(400, 300).save(tmp_path / "a.png")
    photos = read_photos(tmp_path)
    assert [tuple(scale.shape[1:]) for scale in photos.pyramids[0]] == [(300, 400), (150, 200), (75, 100), (38, 50), (19, 25)]
    crops = photos.crops(64, 32, 3)
    assert torch.equal(crops, photos.crops(64, 32, 3))
    assert not torch.equal(crops, photos.crops(64, 32, 4))
    assert crops.min() >= -1
    assert crops.max() <= 1
    slopes = (crops[:, 0, 0, -1] - crops[:, 0, 0, 0]).abs()
    assert slopes.max() > 3 * slopes.min()  # several scales: red rises over 32 pixels of 400, or of 50
    assert ((crops[:, 0, 0, -1] - crops[:, 0, 0, 0]) < 0).any()  # some are flipped


def test_photographs_smaller_than_the_crop_are_refused(tmp_path):
    picture().save(tmp_path / "a.png")
    with pytest.raises(InputError, match="at least 64 pixels"):
        read_photos(tmp_path).crops(1, 64, 0)


def test_a_glob_may_have_wild_cards_in_its_folders(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "images").mkdir(parents=True)
        picture().save(tmp_path / name / "images" / "large.png")
        picture().save(tmp_path / name / "images" / "small.png")
    photos = read_photos(tmp_path / "*" / "images" / "large.png")
    assert photos.names == ("one/images/large.png", "two/images/large.png")
    assert read_photos(tmp_path / "one" / "images" / "large.png").names == ("large.png",)
    with pytest.raises(NotFoundError) as caught:
        read_photos(tmp_path / "*" / "pictures" / "*.png")
    assert caught.value.code == "NO_IMAGES"


def test_a_file_far_larger_than_its_picture_is_not_read_whole(tmp_path):
    """A PNG is a picture whatever follows its end, and the holes of a sparse file take no disk."""
    for name, size in (("large.png", 2**28), ("huge.png", 2**30 + 1)):
        Image.linear_gradient("L").save(tmp_path / name)
        os.truncate(tmp_path / name, size)
    tracemalloc.start()
    photos = read_photos(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert photos.names == ("large.png",)
    assert [(one.path.name, "more than 1073741824" in one.reason) for one in photos.skipped] == [("huge.png", True)]
    assert peak < 2**26


def test_no_photograph_is_left_out_because_the_machine_has_no_open_file_left(tmp_path, monkeypatch):
    Image.linear_gradient("L").save(tmp_path / "a.png")
    Image.linear_gradient("L").save(tmp_path / "b.png")
    whole = Image.open

    def exhausted(path):
        if path.name == "b.png":
            raise OSError(errno.EMFILE, "Too many open files", str(path))
        return whole(path)

    monkeypatch.setattr("batteries.images.decoding.Image.open", exhausted)
    with pytest.raises(StoreError, match="Too many open files"):
        read_photos(tmp_path)
