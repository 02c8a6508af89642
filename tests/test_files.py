"""Files are whole or absent, and what killed writers left is swept."""

import os

import pytest

from batteries import Cell, files
from batteries.errors import FormatError, IntegrityError, NotFoundError, StoreError
from tests.making import litter, tiny


def test_create_never_replaces_and_replace_always_does(tmp_path):
    path = tmp_path / "deep" / "er" / "a"
    assert files.create(path, b"one") is True
    assert files.create(path, b"two") is False
    assert path.read_bytes() == b"one"
    files.replace(path, b"two")
    assert path.read_bytes() == b"two"
    assert litter(tmp_path) == []


def test_read_is_bounded_and_follows_no_link(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert files.read(path, limit=5) == b"12345"
    with pytest.raises(FormatError, match="TOO_LARGE"):
        files.read(path, limit=4)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(FormatError, match="SYMLINK"):
        files.read(tmp_path / "link", limit=5)
    with pytest.raises(NotFoundError):
        files.read(tmp_path / "missing", limit=5)
    with pytest.raises(StoreError, match="DISK"):
        files.read(tmp_path, limit=5)


@pytest.mark.parametrize("call", [files.create, files.replace])
@pytest.mark.parametrize("broken", ["fsync", "link", "open"])
def test_a_failing_disk_leaves_nothing_half_written(tmp_path, monkeypatch, call, broken):
    path = tmp_path / "a"
    if call is files.replace:
        path.write_bytes(b"old")
        broken = {"link": "replace"}.get(broken, broken)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    target = {"fsync": "os.fsync", "link": "os.link", "open": "pathlib.Path.open", "replace": "pathlib.Path.replace"}[broken]
    with monkeypatch.context() as patched:
        patched.setattr(target, fail)
        with pytest.raises(StoreError, match="NO_SPACE") as caught:
            call(path, b"new")
    assert caught.value.retryable
    assert caught.value.exit_code == 8
    assert litter(tmp_path) == []
    assert (path.read_bytes() if path.exists() else None) == (b"old" if call is files.replace else None)
    call(path, b"new")
    assert path.read_bytes() == b"new"


def test_sweep_takes_only_what_dead_writers_of_ours_left(tmp_path):
    dead = tmp_path / "x" / ".cell.json.999999999.0123abcd.part"
    dead.parent.mkdir()
    dead.write_bytes(b"1234")
    kept = [
        tmp_path / "report.pdf.part",
        tmp_path / "a.part",
        tmp_path / f".b.{os.getpid()}.0123abcd.part",
        tmp_path / ".c.9.part",
    ]
    for path in kept:
        path.write_bytes(b"x")
    assert files.sweep(tmp_path) == 4
    assert not dead.exists()
    assert all(path.exists() for path in kept)


def test_cells_go_to_two_files_and_back(tmp_path):
    cell = tiny()
    path = cell.write(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny.json", "tiny.safetensors"]
    found = Cell.read(path)
    assert found.manifest == cell.manifest
    assert all((found.weights[name] == cell.weights[name]).all() for name in cell.weights)


def test_a_cell_that_is_not_whole(tmp_path):
    path = tiny().write(tmp_path)
    manifest = path.with_suffix(".json")
    whole, kept = path.read_bytes(), manifest.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(IntegrityError, match="DIGEST_MISMATCH"):
        Cell.read(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(IntegrityError, match="SIZE_MISMATCH"):
        Cell.read(path)
    path.write_bytes(whole)
    manifest.unlink()
    with pytest.raises(NotFoundError, match="Keep the two files together"):
        Cell.read(path)
    manifest.write_bytes(kept.replace(b'"tiny"', b'"tin"'))
    assert Cell.read(path).name == "high/tin"
    with pytest.raises(NotFoundError, match="not a cell file"):
        Cell.read(manifest)
