"""Files are whole or absent, and what killed writers left is swept."""

import errno
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from batteries import Cell
from batteries.errors import FormatError, InputError, IntegrityError, NotFoundError, StoreError
from batteries.io import atomic_files, filesystem, folders, temporary_files
from batteries.io.operating_system import place
from tests.support.cells import ROOT, litter, tiny


def test_create_never_replaces_and_replace_always_does(tmp_path):
    path = tmp_path / "deep" / "er" / "a"
    assert atomic_files.create(path, b"one") is True
    assert atomic_files.create(path, b"two") is False
    assert path.read_bytes() == b"one"
    atomic_files.replace(path, b"two")
    assert path.read_bytes() == b"two"
    assert litter(tmp_path) == []


def test_read_is_bounded_and_follows_no_link(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert atomic_files.read(path, limit=5) == b"12345"
    with pytest.raises(FormatError, match="TOO_LARGE"):
        atomic_files.read(path, limit=4)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(FormatError, match="SYMLINK"):
        atomic_files.read(tmp_path / "link", limit=5)
    with pytest.raises(NotFoundError, match="NO_FILE"):
        atomic_files.read(tmp_path / "missing", limit=5)
    with pytest.raises(StoreError, match="DISK"):
        atomic_files.read(tmp_path, limit=5)


def test_what_is_no_file_does_not_make_a_reader_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (atomic_files.read, atomic_files.mapped):
        with pytest.raises(FormatError, match="NOT_A_FILE"):
            read(tmp_path / "pipe", limit=5)


@pytest.mark.parametrize("call", [atomic_files.read, atomic_files.create, atomic_files.replace])
def test_a_path_that_is_none(call):
    with pytest.raises(InputError, match="BAD_PATH"):
        atomic_files.read(Path("a\0b"), limit=5) if call is atomic_files.read else call(Path("a\0b"), b"x")


def broken(**answers):
    """A disk on which some calls answer so, or raise the error that is given for them."""

    def method(answer):
        def call(self, *arguments):
            if isinstance(answer, int):
                raise OSError(answer, os.strerror(answer))
            return answer(*arguments)

        return call

    return filesystem.use(type("Broken", (filesystem.Disk,), {name: method(answer) for name, answer in answers.items()})())


@pytest.mark.parametrize("call", [atomic_files.create, atomic_files.replace])
@pytest.mark.parametrize("what", ["create", "write", "fsync", "open_folder", "rename", "scan"])
def test_a_failing_disk_leaves_nothing_half_written(tmp_path, call, what):
    path = tmp_path / "a"
    (tmp_path / "neighbour").write_bytes(b"")  # nothing is synced above a folder that holds something
    if call is atomic_files.replace:
        path.write_bytes(b"old")
    before = path.read_bytes() if path.exists() else None
    what = what.replace("rename", "link" if call is atomic_files.create else "replace")
    with broken(**{what: errno.ENOSPC}), pytest.raises(StoreError, match="NO_SPACE") as caught:
        call(path, b"new")
    assert caught.value.retryable
    assert caught.value.exit_code == 8
    assert litter(tmp_path) == []
    assert (path.read_bytes() if path.exists() else None) == (b"new" if what == "open_folder" else before)
    call(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
@pytest.mark.parametrize("what", ["open", "fstat", "read"])
def test_a_disk_that_cannot_be_read_is_a_typed_error(tmp_path, what, number):
    (tmp_path / "a").write_bytes(b"x")
    with broken(**{what: number}), pytest.raises(StoreError) as caught:
        atomic_files.read(tmp_path / "a", limit=5)
    assert (caught.value.code, caught.value.retryable) == ("DISK", True)


def test_a_disk_that_moves_few_bytes_at_a_time(tmp_path):
    data = bytes(range(256)) * 9
    with broken(write=lambda file, rest: os.write(file, rest[:100]), read=lambda file, size: os.read(file, min(size, 7))):
        atomic_files.create(tmp_path / "a", data)
        assert atomic_files.read(tmp_path / "a", limit=len(data)) == data
        with pytest.raises(FormatError, match="TOO_LARGE"):
            atomic_files.read(tmp_path / "a", limit=len(data) - 1)


def test_a_disk_that_takes_no_more_bytes(tmp_path):
    with broken(write=lambda file, rest: 0), pytest.raises(StoreError, match="DISK"):
        atomic_files.create(tmp_path / "a", b"data")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_vanishes_under_a_write_is_the_disks_fault(tmp_path):
    with broken(create=errno.ENOENT), pytest.raises(StoreError, match="DISK"):
        atomic_files.replace(tmp_path / "a", b"x")


def test_sweep_takes_only_what_dead_writers_of_ours_left(tmp_path):
    dead = tmp_path / "x" / f".cell.json.999999999.{place()}0123abcd.part"
    dead.parent.mkdir()
    dead.write_bytes(b"1234")
    kept = [
        tmp_path / "report.pdf.part",
        tmp_path / "a.part",
        tmp_path / f".b.{os.getppid()}.{place()}0123abcd.part",
        tmp_path / ".c.9.part",
        tmp_path / f".d.{10**30}.{place()}0123abcd.part",
    ]
    for path in kept:
        path.write_bytes(b"x")
    assert atomic_files.sweep(tmp_path) == 4
    assert not dead.exists()
    assert all(path.exists() for path in kept)
    assert atomic_files.sweep(tmp_path / "missing") == 0


@pytest.mark.parametrize("write", [atomic_files.create, atomic_files.replace])
def test_the_next_write_beside_it_removes_what_a_killed_writer_left(tmp_path, write):
    dead, deeper = tmp_path / f".a.999999999.{place()}0123abcd.part", tmp_path / "x" / f".a.999999999.{place()}0123abcd.part"
    deeper.parent.mkdir()
    for path in (dead, deeper):
        path.write_bytes(b"1234")
    write(tmp_path / "one", b"x")
    assert not dead.exists()
    assert deeper.exists()


@pytest.mark.parametrize("other", ["0" * 8, None])
def test_sweep_keeps_what_another_host_or_container_may_be_writing(tmp_path, other):
    """Process numbers mean nothing there: its files are kept for a day, and so are those of names without a place."""
    path = tmp_path / f".cell.json.999999999.{other or ''}0123abcd.part"
    path.write_bytes(b"1234")
    assert atomic_files.sweep(tmp_path) == 0
    yesterday = time.time() - temporary_files.FORGOTTEN - 60
    os.utime(path, (yesterday, yesterday))
    assert atomic_files.sweep(tmp_path) == 4


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare")
def test_a_container_has_a_place_of_its_own():
    program = "from batteries.io.operating_system import place; print(place())"
    words = ["unshare", "--pid", "--fork", "--mount-proc", "--user", "--map-root-user", sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        pytest.skip(f"no namespaces here: {done.stderr[-100:]}")
    assert done.stdout.strip() not in ("", place())


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_process_that_was_forked_into_a_container_asks_again():
    program = """
import ctypes, os
from batteries.io.operating_system import place
before = place()
if ctypes.CDLL(None).unshare(0x20000000):  # CLONE_NEWPID
    os._exit(77)
child = os.fork()
if child == 0:
    os._exit(place() == before)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    if done.returncode == 77:
        pytest.skip("no permission to make namespaces")
    assert done.returncode == 0


def test_sweep_leaves_alone_what_this_process_is_writing(tmp_path):
    swept = []
    with broken(fsync=lambda _: swept.append(atomic_files.sweep(tmp_path))):
        atomic_files.create(tmp_path / "a", b"1234")
    assert set(swept) == {0}
    assert (tmp_path / "a").read_bytes() == b"1234"


def test_sweep_takes_what_this_process_could_not_remove(tmp_path):
    with broken(unlink=errno.EIO):
        atomic_files.create(tmp_path / "a", b"1234")
    assert (tmp_path / "a").read_bytes() == b"1234"
    assert len(litter(tmp_path)) == 1
    assert atomic_files.sweep(tmp_path) == 4
    assert litter(tmp_path) == []


def test_sweep_passes_over_what_it_may_not_look_into(tmp_path):
    (tmp_path / f".a.999999999.{place()}0123abcd.part").write_bytes(b"x")
    (tmp_path / "lost+found").mkdir()

    def scan(folder):
        if Path(folder).name == "lost+found":
            raise PermissionError(errno.EACCES, "no")
        return os.scandir(folder)

    with broken(scan=scan):
        assert atomic_files.sweep(tmp_path) == 1
        with pytest.raises(StoreError, match="DISK"):
            list(atomic_files.walk(tmp_path))


def test_walk_finds_regular_files_and_follows_no_link(tmp_path):
    folder = tmp_path / "folder"
    (folder / "x" / "y").mkdir(parents=True)
    for name in ("a", "x/b", "x/y/c"):
        (folder / name).write_bytes(b"x")
    (tmp_path / "d").write_bytes(b"x")
    (folder / "file").symlink_to(tmp_path / "d")
    (folder / "around").symlink_to(tmp_path)
    assert sorted(path.relative_to(folder).as_posix() for path in atomic_files.walk(folder)) == ["a", "x/b", "x/y/c"]
    assert list(atomic_files.walk(folder / "a")) == list(atomic_files.walk(folder / "missing")) == []


def test_what_is_moved_aside_is_kept_under_a_new_name(tmp_path):
    path, aside = tmp_path / "a", tmp_path / "damaged"
    for data in (b"one", b"two"):
        path.write_bytes(data)
        moved = atomic_files.move_aside(path, aside)
        assert moved.parent == aside
        assert (moved.name[:2], moved.read_bytes()) == ("a.", data)
    assert atomic_files.move_aside(path, aside) is None
    assert (len(list(aside.iterdir())), path.exists()) == (2, False)


def test_what_is_removed_is_gone_and_may_be_gone_already(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    assert atomic_files.remove(tmp_path / "a") is True
    assert atomic_files.remove(tmp_path / "a") is False
    assert atomic_files.remove(tmp_path / "missing" / "a") is False


def test_links_and_folders_are_told_apart(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path)
    paths = [tmp_path, tmp_path / "link", tmp_path / "file", tmp_path / "missing", tmp_path / "file" / "below"]
    assert [atomic_files.is_folder(path) for path in paths] == [True, False, False, False, False]
    assert [atomic_files.is_link(path) for path in paths] == [False, True, False, False, False]


def test_one_at_a_time_is_inside_a_lock(tmp_path):
    path, inside = tmp_path / "folder" / "lock", []

    def work(n):
        with atomic_files.lock(path, 30):
            inside.append(n)
            assert inside == [n]
            inside.remove(n)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    with atomic_files.lock(path, 1), pytest.raises(StoreError) as caught, atomic_files.lock(path, 0.05):
        pass
    assert (caught.value.code, caught.value.retryable) == ("LOCK_TIMEOUT", True)
    assert path.exists()


def test_a_lock_passes_on_the_error_that_ends_it(tmp_path):
    with pytest.raises(KeyError, match="this one"), atomic_files.lock(tmp_path / "lock", 1):
        raise KeyError("this one")
    with atomic_files.lock(tmp_path / "lock", 0.1):
        pass


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


def test_a_file_from_parts_that_are_made_while_it_is_written(tmp_path):
    path = tmp_path / "a"
    atomic_files.replace_from(path, (bytes([n]) * 3 for n in range(3)))
    assert path.read_bytes() == b"\0\0\0\1\1\1\2\2\2"

    def failing():
        yield b"half"
        raise StoreError("no such part", code="DISK")

    with pytest.raises(StoreError, match="no such part"):
        atomic_files.replace_from(path, failing())
    assert path.read_bytes() == b"\0\0\0\1\1\1\2\2\2"
    assert litter(tmp_path) == []


def test_a_file_is_moved_in_place_of_another_and_never_of_a_link(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    atomic_files.move(tmp_path / "a", tmp_path / "b")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("b", "a")]
    (tmp_path / "link").symlink_to("b")
    with pytest.raises(FormatError, match="SYMLINK"):
        atomic_files.move(tmp_path / "b", tmp_path / "link")


def test_a_folder_is_removed_with_its_files_and_not_with_another_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("x")
    folders.remove(tmp_path / "a")
    folders.remove(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "b" / "c").mkdir(parents=True)
    with pytest.raises(StoreError, match="DISK"):
        folders.remove(tmp_path / "b")
