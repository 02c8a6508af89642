"""Compiled code on disk: found again by the next process, never old, never another's, and healed where it is damaged."""

import errno
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from batteries.io import filesystem
from tests.compatibility import works
from tests.support.kernels import rise, twice

numba = pytest.importorskip("numba")
kernelcache = pytest.importorskip("batteries.kernels.kernel_cache")


def run(function=rise, wanted=2.0):
    """Whether the code of a kernel made afresh was on disk; its answer is right."""
    made = kernelcache.kernel(function)
    out = np.empty(3)
    made(np.ones(3), out)
    assert (out == wanted).all()
    return bool(sum(made.stats.cache_hits.values()))


@pytest.fixture
def places(monkeypatch, tmp_path):
    """The user's home and the folder for temporary files; numba has no folder of its own."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("BATTERIES_HOME", str(home))
    return home, temporary


def entries(folder):
    return sorted(folder.rglob("*.code"))


def test_the_next_process_finds_it_in_the_home(places):
    home, temporary = places
    assert not run()
    (entry,) = entries(home)
    assert entry.parent.stat().st_mode & 0o777 == 0o700
    assert entry.stat().st_mode & 0o777 == 0o600
    assert run()
    assert not entries(temporary)
    assert not list(Path(__file__).parents[2].rglob("*rise*.nb?"))


def flip(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGE = {
    "empty": lambda data: b"",
    "torn in its digest": lambda data: data[:40],
    "torn": lambda data: data[:-1],
    "longer": lambda data: data + b"x",
    "zeros": lambda data: bytes(len(data)),
    "random": lambda data: np.random.default_rng(0).bytes(len(data)),
    "one bit": flip,
    "a pickle": lambda data: pickle.dumps(("0.1", {})),
    "text": lambda data: b"version https://git-lfs.github.com/spec/v1\n",
}


@pytest.mark.parametrize("damage", DAMAGE)
@works("Disks and systems", "damaged compiled code of a kernel", note="compiled anew and replaced")
def test_a_damaged_entry_heals(places, damage):
    run()
    (entry,) = entries(places[0])
    entry.write_bytes(DAMAGE[damage](entry.read_bytes()))
    assert not run()
    assert run()
    assert entries(places[0]) == [entry]


def test_an_entry_that_is_no_code_heals(places, monkeypatch):
    """Its digest is right: it was written so."""
    write = kernelcache._write
    with monkeypatch.context() as patch:
        patch.setattr(kernelcache, "_write", lambda path, digest, payload: write(path, digest, pickle.dumps(("nothing", 1))))
        run()
    assert not run()
    assert run()


def test_the_entry_of_another_kernel_heals(places):
    run()
    (mine,) = entries(places[0])
    run(twice)
    (other,) = set(entries(places[0])) - {mine}
    mine.write_bytes(other.read_bytes())
    assert not run()
    assert run()
    assert run(twice)


@pytest.mark.parametrize("thing", ["link", "pipe"])
def test_an_entry_that_is_no_file_is_replaced(places, thing, tmp_path):
    run()
    (entry,) = entries(places[0])
    entry.rename(tmp_path / "elsewhere")
    if thing == "link":
        entry.symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(entry)
    assert not run()
    assert run()
    assert entry.is_file()
    assert not entry.is_symlink()


def test_a_folder_in_the_place_of_an_entry_is_passed_by(places):
    run()
    (entry,) = entries(places[0])
    entry.unlink()
    entry.mkdir()
    assert not run()
    assert run()
    assert len(entries(places[1])) == 1


# ---- where ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("home", ["/dev/null/batteries", "a file", "~nobody-of-this-name/x", ""])
@works("Disks and systems", "compiled code of kernels without a writable home", note="in the folder for temporary files")
def test_without_a_writable_home_it_is_in_the_temporary_folder(places, monkeypatch, tmp_path, home):
    if home == "a file":
        home = tmp_path / "file"
        home.write_text("")
    monkeypatch.setenv("BATTERIES_HOME", str(home))
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert not run()
    assert run()
    (entry,) = entries(places[1])
    assert entry.parent.stat().st_mode & 0o777 == 0o700


def test_without_any_folder_it_is_compiled_in_every_process(places, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BATTERIES_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    assert not run()
    assert not run()


def test_a_full_disk_costs_the_cache_only(places, monkeypatch):
    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(filesystem.current, "write", full)
    assert not run()
    assert not run()


@works("Disks and systems", "NUMBA_CACHE_DIR", note="compiled code of kernels is kept there")
def test_numbas_own_folder_is_used_where_it_is_set(places, monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "numba"))
    assert not run()
    assert run()
    assert len(entries(tmp_path / "numba")) == 1
    assert not entries(places[0])


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_a_folder_that_others_can_write_to_is_not_read(places, mode):
    run()
    (entry,) = entries(places[0])
    entry.parent.chmod(mode)
    assert not run()
    assert run()  # from the folder for temporary files
    assert len(entries(places[1])) == 1


def test_a_file_that_others_can_write_to_is_not_read(places):
    run()
    (entry,) = entries(places[0])
    entry.chmod(0o666)
    assert not run()
    assert run()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("folder", [True, False])
def test_what_another_user_left_is_not_read(places, monkeypatch, folder):
    run()
    (entry,) = entries(places[0])
    os.chown(entry.parent if folder else entry, 12345, 12345)
    monkeypatch.setattr(pickle, "loads", lambda data: pytest.fail("a pickle of another user"))
    assert not run()


# ---- which ----------------------------------------------------------------------------------------------------------


def test_a_change_below_a_kernel_is_another_entry(monkeypatch):
    def digest(changed=None):
        kernelcache._sources.cache_clear()
        monkeypatch.setattr(kernelcache, "_source", lambda name: real(name) + "#" * (name == changed))
        return kernelcache._sources("composer.kernels.encoder_decoder")

    real = kernelcache._source
    own = digest()
    below = {
        "composer": ("encoder_decoder", "row_operations", "weight_packing"),
        "batteries": ("gelu", "exponential", "float32_vectors", "vectors", "vector_tuples", "vector_type", "kernel_cache"),
    }
    for name in [f"{package}.kernels.{module}" for package, modules in below.items() for module in modules]:
        assert digest(name) != own, name
    for name in ("composer.container.container", "batteries.errors", "batteries.io.atomic_files"):
        assert digest(name) == own, name
    kernelcache._sources.cache_clear()


def test_versions_settings_and_processor_are_in_the_name(monkeypatch):
    class Codegen:
        def __init__(self, name):
            self.name = name

        def magic_tuple(self):
            return "x86_64-unknown-linux-gnu", self.name, "+avx2"

    made = kernelcache.KernelCache(rise)
    signature = (numba.float64[::1], numba.float64[::1])
    own = made._digest(signature, Codegen("znver3"))
    assert own == kernelcache.KernelCache(rise)._digest(signature, Codegen("znver3"))
    others = {made._digest(signature, Codegen("generic")), made._digest(signature[:1], Codegen("znver3"))}
    for where, name in ((numba, "__version__"), (kernelcache.llvmlite, "__version__"), (numba.config, "OPT")):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, "0")
            others.add(made._digest(signature, Codegen("znver3")))
    assert len(others - {own}) == 5


def test_without_a_source_nothing_is_kept(places, monkeypatch):
    monkeypatch.setattr(kernelcache, "_sources", lambda name: None)
    assert not run()
    assert not run()
    assert not entries(places[0])


PROCESS = "from tests.batteries.kernels import test_kernel_cache as tests; print(tests.run())"


@pytest.mark.slow
@works("Disks and systems", "two processes that compile kernels at once")
def test_two_processes_at_once(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])}

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", PROCESS], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    for count in (2, 1):
        processes = [start() for _ in range(count)]
        answers = [process.communicate(timeout=120) for process in processes]
        assert all(process.returncode == 0 for process in processes)
        assert all(err == b"" for _, err in answers)
    assert answers[0][0].strip() == b"True"
    assert len(entries(tmp_path)) == 1
