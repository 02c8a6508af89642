"""A file and its manifest are the old pair or the new one: at every call of the file system, and under kills."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from batteries import Cell
from batteries.errors import IntegrityError, NotFoundError, StoreError
from batteries.io import file_pair, filesystem
from tests.support.cells import ROOT, litter, tiny
from tests.support.soak import many

OLD, NEW = tiny(seed=1), tiny(seed=2)
CALLS = ("create", "write", "fsync", "replace", "unlink")


class Failing(filesystem.Disk):
    """A disk on which the n-th call of a kind fails."""

    def __init__(self, call, n):
        self.calls = 0
        whole = getattr(super(), call)

        def failing(*given):
            self.calls += 1
            if self.calls == n + 1:
                raise OSError(errno.ENOSPC, "no space")
            return whole(*given)

        setattr(self, call, failing)


def kept(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("first", [True, False])
def test_a_write_that_fails_at_any_call_leaves_a_whole_pair(tmp_path, call, first):
    """The n-th call of a kind fails, for every n until none does."""
    for n in range(50):
        folder = tmp_path / str(n)
        path = folder / f"{NEW.manifest.identity.name}.safetensors"
        if not first:
            OLD.write(folder)
        disk = Failing(call, n)
        with filesystem.use(disk):
            try:
                NEW.write(folder)
                done = True
            except StoreError:
                done = False
        try:
            found = Cell.read(path)
        except NotFoundError:
            assert first
            assert not done
        else:
            assert found.digest in {NEW.digest} if first or done else {OLD.digest, NEW.digest}
        NEW.write(folder)
        assert Cell.read(path).digest == NEW.digest
        assert kept(folder) == [path.with_suffix(".json").name, path.name]
        if disk.calls <= n:
            return
    raise AssertionError("no end of calls")


@pytest.mark.parametrize("first", [True, False])
def test_a_write_without_space_leaves_nothing_of_the_new_pair(tmp_path, monkeypatch, first):
    path = tmp_path / f"{NEW.manifest.identity.name}.safetensors"
    if not first:
        OLD.write(tmp_path)
    before = kept(tmp_path)

    def full(place, parts):
        raise StoreError("no space", code="NO_SPACE", where=place)

    monkeypatch.setattr(file_pair.atomic_files, "replace_from", full)
    monkeypatch.setattr(file_pair.atomic_files, "replace", lambda place, data: place.write_bytes(data))
    with pytest.raises(StoreError, match="NO_SPACE"):
        file_pair.write(path, [b"new"], b"{}")
    assert kept(tmp_path) == before


def test_the_copy_of_a_manifest_serves_its_own_file_alone(tmp_path):
    path = OLD.write(tmp_path)
    file_pair.coming_of(path).write_bytes(NEW.manifest.to_bytes())
    assert Cell.read(path).digest == OLD.digest
    file_pair.coming_of(path).write_bytes(b"garbage")
    assert Cell.read(path).digest == OLD.digest
    path.write_bytes(NEW.to_bytes())
    with pytest.raises(IntegrityError, match="mismatch"):
        Cell.read(path)
    file_pair.coming_of(path).write_bytes(NEW.manifest.to_bytes())
    assert Cell.read(path).digest == NEW.digest


WRITER = """
import sys
from pathlib import Path
from tests.support.cells import tiny
cells = [tiny(seed=1), tiny(seed=2)]
print("ready", flush=True)
while True:
    for cell in cells:
        cell.write(sys.argv[1])
"""


@pytest.mark.slow
def test_a_pair_that_is_written_over_is_whole_whenever_the_writer_is_killed(tmp_path):
    path, digests = OLD.write(tmp_path), {OLD.digest, NEW.digest}
    for _ in range(many(8, 200)):
        words, environment = [sys.executable, "-c", WRITER, str(tmp_path)], {**os.environ, "OMP_NUM_THREADS": "1"}
        writer = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, env=environment)
        writer.stdout.readline()
        time.sleep(0.05 + 0.1 * int.from_bytes(os.urandom(1), "big") / 255)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert Cell.read(path).digest in digests
    NEW.write(tmp_path)
    assert [name for name in kept(tmp_path) if name.endswith(".coming")] == []
    assert len(kept(tmp_path)) == 2 + len(litter(tmp_path))


def test_of_two_writers_at_once_neither_puts_its_manifest_beside_the_file_of_the_other(tmp_path, monkeypatch):
    """The second one writes while the first has replaced its file, and not yet its manifest."""
    path, replace, second = tmp_path / "tiny.safetensors", file_pair.atomic_files.replace, []

    def slowly(place, *parts):
        if place.name == "tiny.json" and not second:
            second.append(threading.Thread(target=OLD.write, args=(tmp_path,)))
            second[0].start()
            second[0].join(0.5)
        replace(place, *parts)

    monkeypatch.setattr(file_pair.atomic_files, "replace", slowly)
    NEW.write(tmp_path)
    second[0].join()
    assert Cell.read(path).digest == OLD.digest
    assert kept(tmp_path) == ["tiny.json", "tiny.safetensors"]


def test_a_folder_that_another_user_locks_for_ever_is_written_to_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(file_pair, "WAIT", 0.05)
    held = filesystem.current.lock_folder(tmp_path, 0)
    path = NEW.write(tmp_path)
    filesystem.current.unlock(held)
    assert Cell.read(path).digest == NEW.digest


def test_a_reader_beside_a_writer_sees_whole_pairs(tmp_path):
    path, stop = OLD.write(tmp_path), threading.Event()

    def write():
        while not stop.is_set():
            NEW.write(tmp_path)
            OLD.write(tmp_path)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = {Cell.read(path).digest for _ in range(60)}
    finally:
        stop.set()
        writer.join()
    assert found <= {OLD.digest, NEW.digest}


def test_a_place_is_checked_before_work_is_done_for_it(tmp_path):
    (tmp_path / "old").write_bytes(b"old")
    for name in ("old", "new", "deep/er/new"):
        file_pair.check_writable(tmp_path / name)
    assert (tmp_path / "old").read_bytes() == b"old"
    assert not (tmp_path / "new").exists()
    assert kept(tmp_path / "deep" / "er") == []
    assert kept(tmp_path) == ["deep", "old"]
    with pytest.raises(StoreError, match="DISK"):
        file_pair.check_writable(tmp_path / "old" / "new")
