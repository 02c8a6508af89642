"""A file system that lacks an operation serves all the same, or says what it cannot promise; an error stays an error."""

import contextlib
import errno
import os
import threading
import warnings

import pytest

import registry
from batteries.errors import ConflictError, StoreError, StoreWarning
from batteries.io import atomic_files, filesystem
from batteries.io.access import Access
from batteries.io.missing_operations import ERRORS
from registry.stores.cache import Cache
from registry.stores.directory import DirectoryStore
from registry.stores.snapshot import open_snapshot
from registry.transfer.remarks import yank
from registry.transfer.verify import verify_store
from tests.compatibility import works
from tests.support.cells import litter, publish, tiny
from tests.support.faulty_disk import LackingDisk

CALLS = {"link": ["link"], "lock": ["lock"], "sync": ["fsync", "open_folder"], "map": ["map"], "allow": ["allow"]}
LACKS = sorted({(call, number) for kind, calls in CALLS.items() for call in calls for number in ERRORS[kind]})
CODES = {"link": "NO_LINKS", "lock": "NO_LOCKS", "fsync": "NO_SYNC", "open_folder": "NO_SYNC", "map": None, "allow": None}
REAL = (errno.EIO, errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EMFILE)


def name(value):
    return errno.errorcode[value] if isinstance(value, int) else value


@pytest.fixture
def folder(tmp_path):
    publish(tiny(), tmp_path / "registry")
    return tmp_path / "registry"


@pytest.mark.parametrize(("call", "number"), LACKS, ids=name)
@works("Disks and systems", "a cache on a file system without hard links, locks, maps or sync of folders")
def test_a_cache_serves_without_a_word(folder, call, number):
    with filesystem.use(LackingDisk(**{call: number})):
        for _ in range(2):
            assert registry.pull("high/tiny", registry=folder)[0].digest == tiny().digest
        path = Cache().path(tiny().digest)
        assert path.read_bytes() == tiny().to_bytes()
        path.write_bytes(b"damaged")
        assert registry.pull("high/tiny", registry=folder)[0].digest == tiny().digest
    assert path.read_bytes() == tiny().to_bytes()
    assert litter(Cache().folder) == []


@pytest.mark.parametrize(("call", "number"), LACKS, ids=name)
@works("Disks and systems", "a registry on such a file system", note="a warning says which promise is not kept")
def test_a_registry_serves_and_says_what_it_cannot_promise(tmp_path, call, number):
    with filesystem.use(LackingDisk(**{call: number})), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        store = DirectoryStore(tmp_path)
        for one in (tiny(), tiny(version="1.1.0")):
            assert publish(one, store).new
        assert not publish(tiny(), store).new
        with pytest.raises(ConflictError, match="VERSION_EXISTS"):
            publish(tiny(seed=1), store)
    assert [warning.message.code for warning in said] == ([] if CODES[call] is None else [CODES[call]])
    assert all(warning.category is StoreWarning and str(tmp_path) in str(warning.message) for warning in said)
    assert [finding for finding in verify_store(DirectoryStore(tmp_path)) if not finding.ok] == []
    assert litter(tmp_path) == []


def test_a_file_system_that_lacks_everything(tmp_path):
    lacking = LackingDisk(link=errno.EPERM, lock=errno.ENOLCK, fsync=errno.EINVAL, open_folder=errno.EISDIR, map=errno.ENODEV)
    with filesystem.use(lacking), pytest.raises(StoreError, match="DISK"):  # a folder that cannot be opened is no lack of sync
        publish(tiny(), tmp_path / "a")
    lacking = LackingDisk(link=errno.EPERM, lock=errno.ENOLCK, fsync=errno.EINVAL, map=errno.ENODEV)
    with filesystem.use(lacking), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        publish(tiny(), tmp_path / "b")
        yank("high/tiny@1.0.0", "x", tmp_path / "b")
    assert {warning.message.code for warning in said} == {"NO_LINKS", "NO_LOCKS", "NO_SYNC"}
    assert open_snapshot(tmp_path / "b").index.number == 2


@pytest.mark.parametrize("number", REAL, ids=name)
@pytest.mark.parametrize("call", [call for calls in CALLS.values() for call in calls])
def test_a_real_error_is_an_error(tmp_path, call, number):
    (tmp_path / "there").write_bytes(b"x")
    use = {
        "map": lambda: atomic_files.mapped(tmp_path / "there", limit=10),
        "lock": lambda: publish(tiny(), tmp_path / "registry"),
        "link": lambda: atomic_files.create(tmp_path / "a", b"x"),
        "fsync": lambda: atomic_files.create(tmp_path / "a", b"x"),
        "open_folder": lambda: atomic_files.create(tmp_path / "a", b"x"),
        "allow": lambda: atomic_files.create(tmp_path / "a", b"x", access=Access(tmp_path)),
    }
    with filesystem.use(LackingDisk(**{call: number})), pytest.raises(StoreError) as caught:
        use[call]()
    assert caught.value.code in {"DISK", "NO_SPACE"}
    assert litter(tmp_path) == []


@pytest.mark.parametrize("call", ["create", "replace", "mkdir", "write", "unlink", "scan", "open", "follow", "lstat", "fstat"])
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.EPERM], ids=name)
def test_without_what_nothing_can_stand_in_for_there_is_a_typed_error_or_no_cache(folder, tmp_path, call, number):
    with filesystem.use(LackingDisk(**{call: number})):
        for use in (
            lambda: registry.pull("high/tiny", registry=folder),
            lambda: publish(tiny("new"), tmp_path / "new"),
            lambda: atomic_files.replace(tmp_path / "file", b"x"),
        ):
            with contextlib.suppress(StoreError):
                use()
    assert registry.pull("high/tiny", registry=folder)[0].digest == tiny().digest


def test_without_links_many_writers_of_the_same_bytes_agree(tmp_path):
    made = []
    with filesystem.use(LackingDisk(link=errno.EPERM)):
        threads = [
            threading.Thread(target=lambda: made.append(atomic_files.create(tmp_path / "a", b"x" * 1000))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert atomic_files.create(tmp_path / "a", b"other") is False
    assert any(made)
    assert (tmp_path / "a").read_bytes() == b"x" * 1000
    assert litter(tmp_path) == []


def test_a_map_that_is_none_is_as_writable_as_one(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    with filesystem.use(LackingDisk(map=errno.ENODEV)):
        data = atomic_files.mapped(tmp_path / "a", limit=3)
    data[0] = 0
    assert (bytes(data), (tmp_path / "a").read_bytes()) == (b"\x0023", b"123")


@pytest.mark.parametrize("length", [200, 255 - len(".safetensors")])
def test_a_name_as_long_as_a_file_system_takes_is_written(tmp_path, length):
    path = tmp_path / ("x" * length + ".safetensors")
    atomic_files.replace(path, b"x")
    assert path.read_bytes() == b"x"
    with pytest.raises(StoreError, match="DISK"):
        atomic_files.replace(tmp_path / ("x" * 256), b"x")


def test_a_file_of_a_wrong_clock_is_collected_and_used(folder):
    registry.pull("high/tiny", registry=folder)
    path = Cache().path(tiny().digest)
    for when in (2**33, 0, 3600 * 24):
        os.utime(path, (when, when))
        registry.pull("high/tiny", registry=folder)
        assert abs(path.stat().st_mtime - when) > 3600


def test_a_lock_ends_with_its_turn_and_its_process(tmp_path):
    with (
        atomic_files.lock(tmp_path / "lock", 1),
        pytest.raises(StoreError, match="LOCK_TIMEOUT"),
        atomic_files.lock(tmp_path / "lock", 0.05),
    ):
        pass
    child = os.fork()
    if child == 0:
        filesystem.current.lock(tmp_path / "lock", 1)
        os._exit(0)
    os.waitpid(child, 0)
    with atomic_files.lock(tmp_path / "lock", 0.05):
        assert (tmp_path / "lock").exists()
