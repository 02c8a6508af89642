"""Tokens of many images as one file: the container's own numbers, in each format, under keys that say where they belong."""

import errno
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import batteries
import composer
from batteries import CellSpec
from batteries.errors import FormatError, InputError, IntegrityError, NotFoundError, StoreError
from batteries.images import files, stream
from batteries.io import atomic_files
from batteries.io.filesystem import Disk, use
from composer.encoding.arguments import PICTURES, TOKEN_FILES
from composer.encoding.encode import FORMATS
from tests.support.cells import from_model
from tests.support.encoding import SIZES, arrays, cells, container, pictures
from tests.support.faulty_disk import FaultyDisk
from tests.support.laws import given, settings, st

ALL = ("omega", "S", "M")
pandas = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def model():
    return container()


def expected(model, source, cell, token, batch):
    """Rows of a cell and a token, from the container itself, on the groups that an encoding makes."""
    images, rows = [one.image for one in stream(source, cell=model, fit="crop")], []
    while images:
        count = next((n for n, one in enumerate(images) if one.shape != images[0].shape or n == batch), len(images))
        with torch.no_grad():
            rows.append(getattr(model(torch.stack(images[:count]), ALL)[cell], token).flatten(0, 1))
        images = images[count:]
    return torch.cat(rows).numpy()


@pytest.mark.parametrize("batch", [1, 2, 16])
@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_arrays_are_the_containers_own(model, tmp_path, suffix, batch):
    path, source = tmp_path / f"tokens{suffix}", pictures()
    encoded = composer.encode(model, source, path, tokens=ALL, fit="crop", batch=batch)
    found, record = arrays(path)
    assert json.loads(encoded.record.to_bytes()) == record
    assert set(found) == {f"{name}/{key}" for name in model.names for key in (*ALL, "image", "row", "column")}
    for name in model.names:
        for token in ALL:
            assert np.array_equal(found[f"{name}/{token}"], expected(model, source, name, token, batch))
            assert found[f"{name}/{token}"].dtype == np.float32


def test_a_table_has_the_same_numbers_and_pandas_reads_it_in_one_line(model, tmp_path):
    composer.encode(model, pictures(), tmp_path / "tokens.parquet", tokens=ALL, fit="crop", batch=2)
    composer.encode(model, pictures(), tmp_path / "tokens.npz", tokens=ALL, fit="crop", batch=2)
    frame = pandas.read_parquet(tmp_path / "tokens.parquet")
    assert list(frame) == ["image", "name", "row", "column", "cell", *ALL]
    wanted, record = arrays(tmp_path / "tokens.npz")
    assert len(frame) == sum(cell["rows"] for cell in record["cells"])
    for cell in record["cells"]:
        own = frame[frame.cell == cell["name"]]
        for key in ("image", "row", "column"):
            assert np.array_equal(own[key], wanted[f"{cell['name']}/{key}"])
        for token in ALL:
            values = np.stack(own[token]).reshape(wanted[f"{cell['name']}/{token}"].shape)
            assert np.array_equal(values, wanted[f"{cell['name']}/{token}"])
    assert [*dict.fromkeys(frame.name)] == [image["name"] for image in record["images"]]
    order = frame.assign(place=frame.cell.map({name: place for place, name in enumerate(model.names)}))
    keys = order[["image", "place", "row", "column"]]
    assert keys.equals(keys.sort_values(list(keys)))


def test_the_record_is_the_same_in_a_table(model, tmp_path):
    from pyarrow import parquet

    encoded = composer.encode(model, pictures(), tmp_path / "tokens.parquet", fit="crop")
    said = parquet.read_schema(tmp_path / "tokens.parquet").metadata[b"svae-batteries"]
    assert json.loads(said) == json.loads(encoded.record.to_bytes())


def test_the_record_says_what_was_run_on_what(model, tmp_path):
    record = composer.encode(model, pictures(), tmp_path / "t.npz", fit="crop", size=16, tokens=["S", "omega"]).record
    assert (record.tokens, record.fit, record.size) == (("omega", "S"), "crop", (16, 16))
    assert (record.package, record.torch) == (batteries.__version__, str(torch.__version__))
    assert record.input == model.scale
    assert {cell.name: cell.tensors for cell in record.cells} == model.ends
    assert [cell.sha256 for cell in record.cells] == [row["sha256"] for row in model.lock.values()]
    assert [(image.name, image.size) for image in record.images] == [(f"images[{n}]", size) for n, size in enumerate(SIZES)]
    assert {image.framed for image in record.images} == {(16, 16)}


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=6),
    batch=st.integers(min_value=1, max_value=4),
)
def test_every_patch_of_every_image_has_one_row(tmp_path_factory, sizes, batch):
    model, path = MODEL, tmp_path_factory.mktemp("keys") / "t.npz"
    sides = [(8 * height, 8 * width) for height, width in sizes]
    composer.encode(model, pictures(sides), path, batch=batch)
    found, record = arrays(path)
    for cell in record["cells"]:
        p = cell["patch_size"]
        keys = zip(*(found[f"{cell['name']}/{key}"].tolist() for key in ("image", "row", "column")), strict=True)
        wanted = [(n, row, column) for n, (h, w) in enumerate(sides) for row in range(h // p) for column in range(w // p)]
        assert [*keys] == wanted
        assert len(found[f"{cell['name']}/omega"]) == len(wanted) == cell["rows"]


MODEL = container()


@pytest.mark.parametrize("tokens", ["omega", "S", "M", ["M", "omega"], ("S", "S"), (token for token in ALL)])
def test_a_choice_of_tokens(model, tmp_path, tokens):
    found = composer.encode(model, pictures(), tmp_path / "t.npz", fit="crop", tokens=tokens)
    stored = {name.rsplit("/")[-1] for name in arrays(tmp_path / "t.npz")[0]} - {"image", "row", "column"}
    assert stored == set(found.record.tokens)


def test_one_cell_a_list_a_mapping_a_container_and_a_saved_model(model, tmp_path):
    made = cells()
    names = [cell.name for cell in made]
    saved = tmp_path / "model.safetensors"
    wiring = composer.Composition.parallel({"a": names[0], "b": names[1]})
    composer.save(composer.wire({"a": made[0], "b": made[1]}, wiring), saved)
    for given_cells, wanted in (
        (made[0], names[:1]),
        (iter(made), names),
        ({"mine": made[1]}, ["mine"]),
        (model.cells(names[2]), names[2:]),
        (composer.load(saved), ["a", "b"]),
    ):
        encoded = composer.encode(given_cells, pictures(), tmp_path / "t.npz", fit="crop")
        assert [cell.name for cell in encoded.record.cells] == wanted


def test_files_and_arrays_give_the_same_tokens(model, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n, picture in enumerate(pictures()):
        Image.fromarray(picture).save(folder / f"{n}.png")
    composer.encode(model, folder, tmp_path / "files.npz", fit="crop")
    composer.encode(model, iter(pictures()), tmp_path / "arrays.npz", fit="crop")
    (mine, record), (theirs, _) = arrays(tmp_path / "files.npz"), arrays(tmp_path / "arrays.npz")
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
    assert [Path(image["name"]) for image in record["images"]] == files(folder)


def test_rows_scaled_by_a_batch_are_those_of_each_image_alone(tmp_path):
    cell = from_model(CellSpec(V=8, D=4, patch_size=4, hidden=8, row_norm="scale"), 0, "scaled")
    source = pictures([(8, 8)] * 3)
    composer.encode(cell, source, tmp_path / "t.npz", batch=3)
    assert np.array_equal(
        arrays(tmp_path / "t.npz")[0]["high/scaled/omega"], expected(composer.compose(cell), source, "high/scaled", "omega", 1)
    )


def test_a_programs_settings_change_no_bit(model, tmp_path):
    composer.encode(model, pictures(), tmp_path / "plain.npz", fit="crop")
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            composer.encode(model, pictures(), tmp_path / "other.npz", fit="crop")
    finally:
        torch.set_default_dtype(torch.float32)
    assert (tmp_path / "plain.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()


def test_a_file_that_is_there_is_replaced_when_the_new_one_is_whole(model, tmp_path):
    path = tmp_path / "t.npz"
    composer.encode(model, pictures(seed=1), path, fit="crop")
    before, seen = path.read_bytes(), []
    composer.encode(
        model, pictures(), path, fit="crop", batch=2, progress=lambda done: seen.append(path.read_bytes() == before)
    )
    assert seen == [True] * 5
    assert path.read_bytes() != before
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.npz"]


WRONG = {
    "an unknown suffix": (lambda m, p: composer.encode(m, pictures(), p / "t.csv"), InputError, "SUFFIX"),
    "no suffix": (lambda m, p: composer.encode(m, pictures(), p / "t"), InputError, "SUFFIX"),
    "no path": (lambda m, p: composer.encode(m, pictures(), None), InputError, "BAD_PATH"),
    "unknown tokens": (lambda m, p: composer.encode(m, pictures(), p / "t.npz", tokens="alpha"), InputError, "TOKENS"),
    "no tokens": (lambda m, p: composer.encode(m, pictures(), p / "t.npz", tokens=()), InputError, "TOKENS"),
    "tokens that are a number": (lambda m, p: composer.encode(m, pictures(), p / "t.npz", tokens=3), InputError, "TOKENS"),
    "no batch": (lambda m, p: composer.encode(m, pictures(), p / "t.npz", batch=0), InputError, "BATCH"),
    "no cells": (lambda m, p: composer.encode([], pictures(), p / "t.npz"), InputError, "NO_CELLS"),
    "no images": (lambda m, p: composer.encode(m, [], p / "t.npz"), NotFoundError, "NO_IMAGES"),
    "no such file": (lambda m, p: composer.encode(m, p / "no.png", p / "t.npz"), NotFoundError, "NO_FILE"),
    "no such fit": (lambda m, p: composer.encode(m, pictures(), p / "t.npz", fit="turn"), InputError, "FIT"),
    "a size the patch does not divide": (
        lambda m, p: composer.encode(m, pictures(), p / "t.npz", size=12),
        InputError,
        "IMAGE_SIZE",
    ),
    "sides the patch does not divide": (
        lambda m, p: composer.encode(m, pictures([(9, 8)]), p / "t.npz"),
        InputError,
        "IMAGE_SIZE",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_is_refused_and_leaves_nothing(model, tmp_path, wrong):
    call, error, code = WRONG[wrong]
    with pytest.raises(error, match=rf"\[{code}\]"):
        call(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_a_link_and_a_device_keep_their_place(model, tmp_path):
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "link.npz").symlink_to(tmp_path / "elsewhere.npz")
    os.mkfifo(tmp_path / "pipe.npz")
    for name, error, code in (
        ("folder.npz", InputError, "FOLDER"),
        ("link.npz", FormatError, "SYMLINK"),
        ("pipe.npz", FormatError, "NOT_A_FILE"),
    ):
        with pytest.raises(error, match=code):
            composer.encode(model, pictures(), tmp_path / name, progress=lambda done: pytest.fail("a cell was run"))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_that_cannot_be_written_is_told_before_a_cell_runs(model, tmp_path):
    class ReadOnly(Disk):
        def mkdir(self, path):
            raise PermissionError(13, "Permission denied", str(path))

    with use(ReadOnly()), pytest.raises(StoreError, match="DISK"):
        composer.encode(model, pictures(), tmp_path / "t.npz", fit="crop", progress=lambda done: pytest.fail("a cell was run"))
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="DISK"):
        composer.encode(model, pictures(), tmp_path / "file" / "t.npz", fit="crop")


def test_changed_weights_are_refused(tmp_path):
    changed = container()
    changed.groups[0].stack.enc_in__weight.data.zero_()
    with pytest.raises(IntegrityError, match="CONTAINER_CHANGED"):
        composer.encode(changed, pictures(), tmp_path / "t.npz", fit="crop")


def test_without_pyarrow_a_table_is_refused_with_the_line_that_installs_it(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"svae-batteries\[parquet\]") as caught:
        composer.encode(model, pictures(), tmp_path / "t.parquet", fit="crop")
    assert caught.value.code == "EXTRA"
    composer.encode(model, pictures(), tmp_path / "t.safetensors", fit="crop")


def test_two_at_once_write_no_common_parts(model, tmp_path):
    path = tmp_path / "t.npz"
    with atomic_files.lock(tmp_path / ".t.npz.parts" / "lock", 0), pytest.raises(StoreError, match="LOCK_TIMEOUT"):
        composer.encode(model, pictures(), path, fit="crop")


@pytest.mark.slow
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_wherever_the_disk_fails_the_file_is_old_or_whole_and_the_next_call_finishes(model, tmp_path, error):
    wanted, source = tmp_path / "wanted.npz", pictures([(8, 8), (8, 16)])
    composer.encode(model, source, wanted)
    path = tmp_path / "t.npz"
    for nth in range(1000):
        path.write_bytes(b"old")
        disk = FaultyDisk(nth, error)
        with use(disk), suppress(StoreError):
            composer.encode(model, source, path)
        assert path.read_bytes() in (b"old", wanted.read_bytes())
        composer.encode(model, source, path)
        assert path.read_bytes() == wanted.read_bytes()
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["t.npz", "wanted.npz"]
        if disk.hit is None:
            break
    assert nth > 20


def test_the_formats_of_the_arguments_are_those_that_are_written():
    assert tuple(FORMATS) == TOKEN_FILES
    assert PICTURES == batteries.images.decoding.SUFFIXES
