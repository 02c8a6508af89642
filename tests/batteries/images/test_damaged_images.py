"""Files of images from any hand: read, or refused by name, whatever decoder they are for; none starts another program."""

import io
import os
import random

import numpy as np
import pytest
from PIL import Image, features

from batteries.errors import InputError
from batteries.images.decoding import open_image, read_image

PICTURE = Image.fromarray((np.arange(24 * 24 * 3).reshape(24, 24, 3) * 7 % 256).astype(np.uint8))
FORMATS = ["PNG", "JPEG", "TIFF", "BMP", "GIF", "PPM", "DDS", "TGA", *(["AVIF"] if features.check("avif") else [])]


def made(name):
    data = io.BytesIO()
    PICTURE.save(data, name)
    return data.getvalue()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.filterwarnings("ignore")  # of Pillow, about metadata
def test_a_damaged_image_is_read_or_refused_by_name(tmp_path, name):
    rng, good, path = random.Random(1), made(name), tmp_path / "image.png"
    for _ in range(60):
        data = bytearray(good)
        for _ in range(rng.choice([1, 2, 6])):
            data[rng.randrange(min(len(data), rng.choice([60, 10**6])))] = rng.choice([0, 127, rng.randrange(256)])
        path.write_bytes(data)
        try:
            read_image(path)
        except InputError as error:
            assert error.code == "IMAGE"  # noqa: PT017  # most are read


def test_no_file_starts_another_program(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # not looked for yet
    path = tmp_path / "image.png"
    path.write_bytes(made("EPS"))
    with pytest.raises(InputError, match="another program"):
        open_image(path)
    assert not (tmp_path / "started").exists()
