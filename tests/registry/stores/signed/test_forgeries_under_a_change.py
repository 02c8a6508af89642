"""A forgery is not made true by a change on top of it: who signs has what he builds on checked as a reader has."""

import contextlib

import pytest

from batteries.errors import BatteriesError, IntegrityError
from registry.stores.settings import open_store
from registry.stores.signed.rotation import refresh, rotate
from registry.stores.snapshot import open_snapshot
from registry.stores.store import INDEX
from registry.transfer.mirror import mirror
from registry.transfer.remarks import attest, yank
from registry.transfer.verify import verify_store
from tests.support.cells import attestation, publish, tiny
from tests.support.signing import (
    CELL,
    PLACES,
    QUIETLY,
    forged_release,
    index_of,
    key,
    pin,
    root_of,
    signed,
    signer,
    signing,
    without,
)

pytestmark = QUIETLY


def writable(place):
    return open_store(place.address, writable=True)


def changes_of(place, tmp_path):
    """Every change there is, by name, but those of keys."""
    publish(tiny("other"), tmp_path / "source")
    return {
        "publish": lambda: publish(tiny("third"), place.address, signing("A")),
        "yank": lambda: yank("high/tiny@1.0.0", "wrong data", place.address, signing=signing("A")),
        "attest": lambda: attest(attestation(CELL, protocol="quick-2"), place.address, signing=signing("A")),
        "mirror": lambda: mirror(tmp_path / "source", place.address, signing=signing("A")),
        "rotate": lambda: rotate(writable(place), signing("A", "B"), add=[signer("B").public_key]),
        "refresh": lambda: refresh(writable(place), signing("A")),
    }


def refused(place, changes):
    """By which code each change is refused; nothing is written by any."""
    before, found = place.files(), {}
    for name, change in changes.items():
        with pytest.raises(BatteriesError) as caught:
            change()
        found[name] = caught.value.code
    assert place.files() == before
    return found


@pytest.fixture(params=["seen", "pinned"])
def known(request, place):
    """The registry, whose key this machine saw before, or pins."""
    if request.param == "seen":
        open_snapshot(place.address)
    else:
        pin(place.address, "A")
    return place


@PLACES
def test_nothing_is_signed_where_all_signatures_were_stripped_from_a_forged_index(known, tmp_path):
    known.write(forged_release(known) | without(known, "signatures/", "trust/"))
    assert set(refused(known, changes_of(known, tmp_path)).values()) == {"UNSIGNED"}


@PLACES
def test_nothing_is_signed_under_other_documents_of_keys_than_those_seen_before(place, tmp_path):
    open_snapshot(place.address)
    files = forged_release(place)
    place.write(files | signed(files[INDEX], "A", "X") | root_of("A", "X"))
    assert set(refused(place, changes_of(place, tmp_path)).values()) == {"WRONG_ROOT"}


@PLACES
def test_nothing_is_signed_under_keys_that_are_not_those_pinned(place, tmp_path):
    pin(place.address, "X")
    assert set(refused(place, changes_of(place, tmp_path)).values()) == {"WRONG_SIGNER"}


@PLACES
def test_nothing_is_signed_on_top_of_an_older_index_than_this_machine_has_read(place, tmp_path):
    before = place.files()
    yank("high/tiny@1.0.0", "wrong data", place.address, signing=signing("A"))
    open_snapshot(place.address)
    place.write(dict.fromkeys(place.files()) | before)
    assert set(refused(place, changes_of(place, tmp_path)).values()) == {"ROLLBACK"}


@PLACES
@pytest.mark.parametrize("signature", ["none", "of another index"])
def test_a_change_of_keys_signs_no_index_that_the_keys_in_force_did_not(place, signature):
    true, files = place.files(), forged_release(place)
    (name,), (own,) = signed(files[INDEX], "A"), signed(true[INDEX], "A")
    place.write(files | ({} if signature == "none" else {name: true[own]}))
    only = {"rotate": lambda: rotate(writable(place), signing("A", "B"), add=[signer("B").public_key])}
    assert refused(place, only) == {"rotate": "UNSIGNED" if signature == "none" else "BAD_SIGNATURE"}
    refresh(writable(place), signing("A"))  # which signs what it finds, and says so
    only["rotate"]()
    assert open_snapshot(place.address).signature.signers


@PLACES
def test_what_is_checked_is_what_is_signed(place):
    """A store that shows a forged index to every other reading has none signed."""
    true, forged = place.files(), forged_release(place)

    class Fickle:
        def __init__(self):
            self.store, self.turn = writable(place), 0

        def __getattr__(self, name):
            return getattr(self.store, name)

        def read_index(self):
            self.turn += 1
            self.store.read_index()
            return forged[INDEX] if self.turn % 2 == self.odd else true[INDEX]

    for Fickle.odd in (0, 1):
        for change in (
            lambda: publish(tiny("third"), Fickle(), signing("A")),
            lambda: rotate(Fickle(), signing("A", "B"), add=[signer("B").public_key]),
        ):
            with contextlib.suppress(IntegrityError):
                change()
            assert "9.0.0" not in index_of(place).releases("high/tiny")
            place.write(dict.fromkeys(place.files()) | true)


@pytest.mark.parametrize("place", ["folder"], indirect=True)  # on the Hub a change of keys is one commit
@pytest.mark.parametrize("name", ["A", "X"])
def test_a_change_that_overtakes_a_change_of_keys_is_signed_if_the_keys_before_it_signed(place, name):
    files = forged_release(place)
    store = writable(place)

    class Overtaken:
        def __getattr__(self, name):
            return getattr(store, name)

        def put(self, key, data):
            store.put(key, data)
            if key.startswith("trust/"):
                place.write(files | signed(files[INDEX], name))

    words = {"add": [signer("B").public_key], "remove": [key("A")]}
    if name == "A":
        rotate(Overtaken(), signing("A", "B"), **words)
        assert "9.0.0" in open_snapshot(place.address).index.releases("high/tiny")
        assert open_snapshot(place.address).signature.signers == (key("B"),)
    else:
        with pytest.raises(IntegrityError, match="WRONG_SIGNER"):
            rotate(Overtaken(), signing("A", "B"), **words)


@PLACES
def test_the_first_key_signs_a_registry_to_which_nothing_new_is_published(place, tmp_path):
    place.write(without(place, "signatures/", "trust/"))
    again = publish(CELL, place.address, signing("B"))
    assert (again.new, again.number) == (False, 4)
    assert open_snapshot(place.address).signature.signers == (key("B"),)
    assert publish(CELL, place.address, signing("B")).number == 4
    mirror(place.address, tmp_path / "copy")
    assert mirror(place.address, tmp_path / "copy", signing=signing("B")).copied == 0
    assert open_snapshot(tmp_path / "copy").signature.signers == (key("B"),)


def codes(findings):
    return [(one.kind, one.error and one.error.code) for one in findings if one.name == INDEX]


@PLACES
@pytest.mark.parametrize(
    ("attack", "code"),
    [
        (lambda place: without(place, "signatures/"), "UNSIGNED"),
        (lambda place: without(place, "signatures/", "trust/"), "MISSING_ROOT"),
        (lambda place: root_of("X"), "WRONG_SIGNER"),
        (lambda place: {"trust/1.root.json": b"{}"}, "SIGNATURE_FORMAT"),
    ],
    ids=["no signature", "neither signature nor keys", "other keys", "damaged keys"],
)
def test_verifying_reads_the_signature_of_the_index_that_is_there_now(place, attack, code):
    store = open_store(place.address)
    assert codes(verify_store(store)) == [("index", None), ("signature", None)]
    place.write(attack(place))
    assert codes(verify_store(open_store(place.address))) == [("index", None), ("signature", code)]


@PLACES
def test_an_index_that_is_refused_does_not_stop_the_check_of_what_it_lists(place):
    pin(place.address, "A")
    place.write(forged_release(place))
    findings = verify_store(open_store(place.address))
    assert [one.name for one in findings if not one.ok] == [INDEX]
    assert [one.kind for one in findings].count("blob") == 3


def test_a_registry_that_was_rebuilt_with_another_key_is_read_once_its_note_is_gone(tmp_path):
    address = tmp_path / "registry"
    publish(CELL, address, signing("A"))
    open_snapshot(address)
    for path in sorted(address.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    publish(tiny("other"), address, signing("B"))
    with pytest.raises(BatteriesError, match="WRONG_SIGNER") as caught:
        open_snapshot(address)
    note = caught.value.remedy.rpartition(" remove ")[2].removesuffix(".")
    (tmp_path / note).unlink()
    assert open_snapshot(address).signature.signers == (key("B"),)
