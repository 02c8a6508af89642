"""Every call of the disk fails, one after the other: no damage, no foreign error, no litter, and the next try succeeds."""

import errno
import itertools
import os
import shutil

import pytest

from batteries.errors import StoreError
from batteries.io import filesystem
from registry.stores.cache import Cache
from registry.stores.directory import DirectoryStore
from registry.transfer.pull import pull
from registry.transfer.remarks import attest
from registry.transfer.verify import verify_store
from tests.support.cells import attestation, litter, publish, tiny
from tests.support.faulty_disk import ERRORS, SHORT, UNREAD, FaultyDisk, HastyDisk
from tests.support.soak import SOAK

OLD = [tiny("old"), tiny("older", seed=1)]
NEW = tiny("new", seed=2)
OPINION = attestation(OLD[0])


ACTIONS = {
    "publish": lambda folder: publish(NEW, DirectoryStore(folder)),
    "attest": lambda folder: attest(OPINION, DirectoryStore(folder)),
    "pull": lambda folder: pull("high/old", registry=str(folder)),
}
BEFORE = 5  # objects in the registry: the index, and a manifest and a blob of every cell
AFTER = {"publish": 7, "attest": 6, "pull": 5}


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    for cell in OLD:
        publish(cell, folder)
    return folder


@pytest.fixture(autouse=True)
def _no_power_is_lost():
    with filesystem.use(HastyDisk()):
        yield


@pytest.fixture
def trial(registry, tmp_path, monkeypatch):
    """Make the folder of a trial: a registry of its own, and a cold cache."""

    number = itertools.count()

    def make():
        folder = tmp_path / str(next(number))
        shutil.copytree(registry, folder / "registry", copy_function=os.link)  # no file is ever written to again
        monkeypatch.setenv("BATTERIES_HOME", str(folder / "home"))
        return folder / "registry"

    return make


@UNREAD
@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
def test_every_call_fails_once(trial, action):
    for nth in itertools.count():
        faults = ERRORS if SOAK else ERRORS[nth % len(ERRORS) :][:1]
        hits = {survive(trial(), action, FaultyDisk(nth, fault)) for fault in faults}
        if hits & {"read", "write"}:
            survive(trial(), action, FaultyDisk(nth, SHORT), succeeds=True)
        if None in hits:
            break
    assert nth > 30


@UNREAD
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("fault", [errno.ENOSPC, *(ERRORS[1:] if SOAK else [])], ids=errno.errorcode.get)
def test_every_call_fails_from_one_on(trial, action, fault):
    for nth in itertools.count(0, 1 if SOAK else 3):
        if survive(trial(), action, FaultyDisk(nth, fault, lasting=True)) is None:
            break


def survive(folder, action, faulty, *, succeeds=False):
    """Do something on a faulty disk, look at what is there, and do it again on a good one; returns which call failed."""
    succeeded = attempt(action, folder, faulty)
    assert succeeded or (faulty.hit and not succeeds)
    assert faulty.descriptors == set()
    found = verify_store(DirectoryStore(folder, writable=False))
    assert [finding for finding in found if not finding.ok] == []
    assert len(found) in ({AFTER[action]} if succeeded else {BEFORE, AFTER[action]})

    DirectoryStore(folder)
    Cache().sweep()
    assert litter(folder.parent) == []
    ACTIONS[action](folder)
    found = verify_store(DirectoryStore(folder))
    assert (len(found), {finding.ok for finding in found}) == (AFTER[action], {True})
    assert [cell.digest for cell in pull("high/old", "high/older", registry=str(folder))] == [cell.digest for cell in OLD]
    assert litter(folder.parent) == []
    return faulty.hit


def attempt(action, folder, faulty):
    """Whether it succeeds; anything but the disk's errors leaves this function."""
    try:
        with filesystem.use(faulty):
            ACTIONS[action](folder)
    except StoreError as error:
        if error.code not in {"NO_SPACE", "DISK"}:
            raise
        return False
    return True
