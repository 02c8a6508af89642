"""Changes of a signed registry: refused before anything is written without a key that may sign, and never half done."""

import itertools

import pytest

import registry
from batteries.errors import BatteriesError, ConflictError, InputError, PolicyError
from registry.catalog import store_keys
from registry.stores.cache import Cache
from registry.stores.cache_cleanup import collect
from registry.stores.directory import GRACE, DirectoryStore
from registry.stores.fsck import fsck
from registry.stores.memory import MemoryStore
from registry.stores.rollback_guard import Memory
from registry.stores.settings import open_store
from registry.stores.signed import changes, reading
from registry.stores.signed.damage import signed_faults
from registry.stores.signed.rotation import refresh, rotate
from registry.stores.snapshot import Snapshot, open_snapshot
from registry.stores.store import INDEX
from registry.transfer.mirror import mirror
from registry.transfer.remarks import attest, yank
from tests.support.cells import attestation, publish, tiny
from tests.support.signing import (
    CELL,
    PLACES,
    QUIETLY,
    forged_release,
    index_of,
    key,
    pin,
    signed,
    signer,
    signing,
    without,
)

pytestmark = QUIETLY


def changes_of(place, tmp_path, signing):
    """Every change there is."""
    publish(tiny("other"), tmp_path / "source")
    yield lambda: publish(tiny("third"), place.address, signing)
    yield lambda: yank("high/tiny@1.0.0", "wrong data", place.address, signing=signing)
    yield lambda: attest(attestation(CELL, protocol="quick-2"), place.address, signing=signing)
    yield lambda: mirror(tmp_path / "source", place.address, signing=signing)


@PLACES
@pytest.mark.parametrize(
    ("names", "code"), [((), "SIGNER_NEEDED"), (("X",), "WRONG_SIGNER")], ids=["without a key", "with another key"]
)
def test_a_change_by_none_or_by_another_is_refused_and_writes_nothing(place, tmp_path, names, code):
    before = place.files()
    for change in changes_of(place, tmp_path, signing(*names) if names else None):
        with pytest.raises(BatteriesError, match=code) as caught:
            change()
        assert caught.value.exit_code in (4, 6)
        assert place.files() == before


@PLACES
def test_every_change_is_signed_and_verified(place, tmp_path):
    pin(place.address, "A")
    for number, change in enumerate(changes_of(place, tmp_path, signing("A")), 4):
        change()
        snapshot = open_snapshot(place.address)
        assert (snapshot.index.number, snapshot.signature.signers) == (number, (key("A"),))
    assert all(one.ok for one in registry.verify("high/*", registry=place.address, signed_by=[key("A")]))


@PLACES
def test_nothing_is_signed_on_top_of_a_forged_index(place):
    place.write(forged_release(place))
    before = place.files()
    with pytest.raises(BatteriesError, match="UNSIGNED"):
        publish(tiny("third"), place.address, signing("A"))
    assert place.files() == before


@PLACES
def test_a_registry_is_signed_for_the_first_time_and_again(request, tmp_path, place):
    place.write(without(place, "signatures/", "trust/"))
    store = open_store(place.address, writable=True)
    assert open_snapshot(place.address).signature.state == "not signed"
    assert refresh(store, signing("B"), releases=True).number == 4
    assert open_snapshot(place.address).signature.signers == (key("B"),)
    assert refresh(store, signing("B")).number == 5
    findings = registry.verify("high/tiny", registry=place.address, signed_by=[key("B")])
    assert [one.kind for one in findings if one.ok] == ["manifest", "blob", "signature"]


@PLACES
def test_a_change_of_keys_is_never_seen_half_done(place, monkeypatch):
    """Whatever file a reader finds written last, the index is one that he accepts."""
    pin(place.address, "A")
    store = open_store(place.address, writable=True)

    class Watched:
        def __getattr__(self, name):
            return getattr(store, name)

        def put(self, key, data):
            store.put(key, data)
            open_snapshot(place.address)

    rotate(Watched(), signing("A", "B"), add=[signer("B").public_key], remove=[key("A")])
    assert open_snapshot(place.address).signature.signers == (key("B"),)


@PLACES
def test_keys_are_changed_only_by_enough_of_them(place):
    store, before = open_store(place.address, writable=True), place.files()
    for names, what, code in (
        (("X",), {"add": [signer("X").public_key]}, "NOT_ENOUGH_SIGNERS"),
        (("A",), {"add": [signer("B").public_key], "remove": [key("A")]}, "NOT_ENOUGH_SIGNERS"),
        (("A",), {"remove": [key("B")]}, "NO_KEY"),
        (("A",), {"remove": [key("A")]}, "THRESHOLD"),
        (("A",), {"threshold": 2}, "THRESHOLD"),
    ):
        with pytest.raises(BatteriesError, match=code):
            rotate(store, signing(*names), **what)
        assert place.files() == before


def test_the_keys_of_a_registry_without_any_are_not_changed(tmp_path):
    publish(CELL, tmp_path / "plain")
    with pytest.raises(InputError, match="NOT_SIGNED"):
        rotate(DirectoryStore(tmp_path / "plain"), signing("A"), add=[signer("B").public_key])


def test_a_store_in_memory_is_signed_too():
    store = MemoryStore()
    publish(CELL, store, signing("A"))
    assert Snapshot.take(store).signature.signers == (key("A"),)
    with pytest.raises(PolicyError, match="SIGNER_NEEDED"):
        publish(tiny("other"), store)


def test_a_publish_that_stopped_before_the_index_is_completed_by_the_next(tmp_path, monkeypatch):
    folder = tmp_path / "signed"
    publish(CELL, folder, signing("A"))

    def stop(self, expected, data):
        raise ConflictError("stopped", code="STOPPED")

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryStore, "swap_index", stop)
        with pytest.raises(ConflictError, match="STOPPED"):
            publish(tiny("other"), folder, signing("A", days=20))
    assert publish(tiny("other"), folder, signing("A", days=10)).number == 2
    assert open_snapshot(folder).signature.signers == (key("A"),)


def test_signed_documents_are_no_orphans_but_the_signature_of_an_index_that_never_was(tmp_path):
    folder = tmp_path / "signed"
    publish(CELL, folder, signing("A"))
    attest(attestation(CELL), folder, signing=signing("A"))
    assert fsck(folder).orphans == ()
    index = open_snapshot(folder).index.refreshed().sealed()
    (name, data), *_ = signed(index, "A").items()
    garbage = store_keys.signature("0" * 64)
    store = DirectoryStore(folder)
    store.put(name, data)
    store.put(garbage, b"{}")
    assert set(fsck(folder).orphans) == {name, garbage}
    import os
    import time

    os.utime(folder / name, (time.time() - 2 * GRACE,) * 2)
    assert fsck(folder, repair=True).repaired == (name,)


def test_the_cache_keeps_what_offline_readers_check_with(tmp_path, hub):
    address = "hf://local/kept"
    publish(CELL, address, signing("A"))
    registry.pull("high/tiny", registry=address)
    collect(Cache(), max_size=0, unused_days=0)
    pin(address, "A")
    assert open_snapshot(address, mode="offline").signature.signers == (key("A"),)
    (note,) = Memory(Cache()).notes()
    assert all(Cache().path(digest).exists() for digest in note.digests)


@pytest.mark.parametrize(("pinned", "code"), [("X", "WRONG_SIGNER"), ("A", None)])
def test_a_key_that_is_pinned_later_is_checked_offline(tmp_path, hub, pinned, code):
    address = "hf://local/kept"
    publish(CELL, address, signing("A"))
    open_snapshot(address)
    pin(address, pinned)
    if code is None:
        assert open_snapshot(address, mode="offline").signature.state == "signed"
        return
    with pytest.raises(BatteriesError, match=code):
        open_snapshot(address, mode="offline")
    with pytest.raises(BatteriesError, match=code):
        open_snapshot(address, mode="prefer-cache")


def test_offline_an_expired_signature_is_told_of_and_otherwise_refused(tmp_path, hub, monkeypatch):
    address = "hf://local/kept"
    publish(CELL, address, signing("A", days=1))
    pin(address, "A")
    open_snapshot(address)
    later = "registry.trust.signature.now"
    monkeypatch.setattr(later, lambda: changes.signed_documents.in_days(2))
    with pytest.warns(UserWarning, match="SIGNATURE_EXPIRED"):
        open_snapshot(address, mode="offline")
    with pytest.raises(PolicyError, match="SIGNATURE_EXPIRED"):
        open_snapshot(address, mode="prefer-cache")


def test_an_unchanged_index_asks_for_no_signature_again(hub):
    address = "hf://local/kept"
    publish(CELL, address, signing("A"))
    open_snapshot(address)
    hub.forget()
    open_snapshot(address)
    assert sum(hub.asked.values()) == 2  # the revision and the index


def test_a_revision_of_a_pinned_registry_is_pinned(hub):
    publish(CELL, "hf://local/kept", signing("A"))
    pin("hf://local/kept", "X")
    with pytest.raises(BatteriesError, match="WRONG_SIGNER"):
        open_snapshot("hf://local/kept@main")


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_a_pin_by_name_and_by_another_path_is_of_the_same_folder(place, tmp_path):
    from registry.stores.settings import config_file

    (tmp_path / "link").symlink_to(place.path)
    config_file().parent.mkdir(parents=True)
    config_file().write_text(f'[registries]\nlab = "{tmp_path / "link"}"\n[trusted]\nlab = "{key("X")}"\n')
    for address in (place.address, tmp_path / "link"):
        with pytest.raises(BatteriesError, match="WRONG_SIGNER"):
            open_snapshot(address)


@pytest.mark.parametrize("text", ['lab = "abc"', "lab = 3", 'lab = ["abc"]', "lab = [[]]"])
def test_pins_that_are_no_ids_are_refused(tmp_path, text):
    from registry.stores.settings import config_file

    config_file().parent.mkdir(parents=True)
    config_file().write_text(f"[trusted]\n{text}\n")
    publish(CELL, tmp_path / "plain")
    with pytest.raises(BatteriesError, match="CONFIG"):
        open_snapshot(tmp_path / "plain")


@PLACES
def test_a_mirror_keeps_the_signatures_of_publishers_and_signs_its_own_index_or_not(place, tmp_path):
    mirror(place.address, tmp_path / "copy")
    assert open_snapshot(tmp_path / "copy").signature.state == "not signed"
    findings = registry.verify("high/tiny", registry=tmp_path / "copy", signed_by=[key("A")])
    assert all(one.ok for one in findings)
    assert "signature" in [one.kind for one in findings]
    mirror(place.address, tmp_path / "signed copy", signing=signing("M"))
    assert open_snapshot(tmp_path / "signed copy").signature.signers == (key("M"),)
    store = DirectoryStore(tmp_path / "signed copy")
    by = {who: [one.ok for one in registry.verify_store(store, signed_by=[key(who)])] for who in "AMX"}
    assert by["A"].count(False) == 1  # its index
    assert all(by["M"])
    assert by["X"].count(False) == 3


@PLACES
def test_a_false_signature_of_a_release_is_not_copied(place, tmp_path):
    release = index_of(place)["high/tiny"]["1.0.0"]
    other = index_of(place)["high/tiny"]["1.1.0"]
    files = place.files()
    name, wrong = (store_keys.signature(one.manifest.sha256) for one in (release, other))
    place.write({name: files[wrong]})
    with pytest.raises(BatteriesError, match="BAD_SIGNATURE"):
        mirror(place.address, tmp_path / "copy")
    assert not (tmp_path / "copy" / INDEX).exists()
    (bad,) = [one for one in registry.verify("high/tiny@1.0.0", registry=place.address) if not one.ok]
    assert (bad.kind, bad.error.code) == ("signature", "BAD_SIGNATURE")


class Overtaken(DirectoryStore):
    """A store whose keys change after each of the first readings of its index, before anything else is read."""

    def __init__(self, path, *changes):
        super().__init__(path)
        self.changes = list(changes)

    def read_index(self):
        data = super().read_index()
        if self.changes:
            old, new = self.changes.pop(0)
            rotate(DirectoryStore(self.path), signing(old, new), add=[signer(new).public_key], remove=[key(old)])
        return data


@pytest.mark.parametrize("seen", [True, False])
def test_a_reading_that_a_change_of_keys_overtook_is_read_again(tmp_path, seen):
    folder = tmp_path / "signed"
    publish(CELL, folder, signing("A"))
    if seen:
        open_snapshot(folder)
        publish(tiny("more"), folder, signing("A"))
    assert Snapshot.take(Overtaken(folder, ("A", "B"))).signature.signers == (key("B"),)


def test_an_index_that_a_change_of_keys_overtook_has_no_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOMENT", 0.0)
    folder = tmp_path / "signed"
    publish(CELL, folder, signing("A"))
    index = open_snapshot(folder).index
    rotate(DirectoryStore(folder), signing("A", "B"), add=[signer("B").public_key], remove=[key("A")])
    assert changes.check_signed(DirectoryStore(folder), index)
    assert signed_faults(DirectoryStore(folder), index) == {}
    (folder / INDEX).write_bytes(index.sealed())
    with pytest.raises(BatteriesError, match="KEY_REVOKED"):
        changes.check_signed(DirectoryStore(folder), index)
    assert [error.code for error in signed_faults(DirectoryStore(folder), index).values()] == ["KEY_REVOKED"]


def test_a_writer_whom_a_change_of_keys_overtook_looks_again(tmp_path):
    folder = tmp_path / "signed"
    publish(CELL, folder, signing("A"))
    publish(tiny("other"), Overtaken(folder, ("A", "B")), signing("A", "B"))
    assert open_snapshot(folder).signature.signers == (key("B"),)
    assert "high/other" in open_snapshot(folder).index


def test_a_registry_that_never_stands_still_is_refused_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOMENT", 0.0)
    folder = tmp_path / "signed"
    publish(CELL, folder, signing("A"))
    names = ["A", *map(str, range(9))]
    with pytest.raises(BatteriesError, match="KEY_REVOKED"):
        Snapshot.take(Overtaken(folder, *itertools.pairwise(names)))


def test_a_change_of_keys_that_was_killed_is_finished_by_the_same_command(tmp_path, monkeypatch):
    folder = tmp_path / "signed"
    publish(CELL, folder, signing("A"))
    what = {"add": [signer("B").public_key], "remove": [key("A")]}
    put = DirectoryStore.put

    def stop(self, name, data):
        put(self, name, data)
        if name == "trust/2.root.json":
            raise KeyboardInterrupt("killed")

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryStore, "put", stop)
        with pytest.raises(KeyboardInterrupt, match="killed"):
            rotate(DirectoryStore(folder), signing("A", "B"), **what)
    for _ in range(2):
        rotate(DirectoryStore(folder), signing("A", "B"), **what)
        assert sorted(path.name for path in (folder / "trust").iterdir()) == ["1.root.json", "2.root.json"]
    assert Snapshot.take(DirectoryStore(folder)).signature.signers == (key("B"),)


def test_a_change_of_keys_once_more_signs_no_index_of_the_revoked_key(tmp_path):
    folder = tmp_path / "signed"
    publish(CELL, folder, signing("A"))
    kept = (folder / INDEX).read_bytes()
    what = {"add": [signer("B").public_key], "remove": [key("A")]}
    rotate(DirectoryStore(folder), signing("A", "B"), **what)
    (folder / INDEX).write_bytes(kept)
    with pytest.raises(BatteriesError, match="KEY_REVOKED"):
        rotate(DirectoryStore(folder), signing("A", "B"), **what)
    assert (folder / INDEX).read_bytes() == kept
