"""What one who can write to a signed registry may do, and by which name a reader refuses it."""

import pytest

import registry
from batteries.errors import BatteriesError, PolicyError
from registry.catalog import store_keys
from registry.stores.settings import open_store
from registry.stores.signed.rotation import refresh, rotate
from registry.stores.signed.trust_guard import SignerWarning
from registry.stores.snapshot import open_snapshot
from registry.stores.store import INDEX
from registry.trust import roots, signed_documents
from tests.support.cells import tiny
from tests.support.signing import (
    CELL,
    PLACES,
    QUIETLY,
    forged_release,
    forged_verdict,
    key,
    pin,
    root_of,
    signed,
    signer,
    signing,
    without,
)

pytestmark = [PLACES, *QUIETLY]


def refused(place):
    with pytest.raises(BatteriesError) as caught:
        registry.pull("high/tiny", registry=place.address)
    assert caught.value.exit_code in (4, 6)
    assert caught.value.where is not None
    return caught.value.code


def by(*names, more=lambda place: {}):
    """A forged release, signed by some keys, and further files."""

    def attack(place):
        files = forged_release(place)
        return files | signed(files[INDEX], *names) | more(place)

    return attack


def another_id(place):
    """A document of keys that has the attacker's key under the id of the one that is pinned."""
    (data,) = root_of("X").values()
    return {store_keys.root(1): data.replace(key("X").encode(), key("A").encode())}


ATTACKS = {
    "forged index": (forged_release, "UNSIGNED"),
    "forged verdict": (forged_verdict, "UNSIGNED"),
    "stripped signature": (lambda place: without(place, "signatures/"), "UNSIGNED"),
    "stripped of all": (lambda place: without(place, "signatures/", "trust/"), "UNSIGNED"),
    "stripped root": (lambda place: without(place, "trust/"), "MISSING_ROOT"),
    "another key": (by("X"), "WRONG_SIGNER"),
    "another key and its root": (by("X", more=lambda place: root_of("X")), "WRONG_SIGNER"),
    "another key under the id": (by("X", more=another_id), "SIGNATURE_FORMAT"),
    "signature of another index": (
        lambda place: forged_release(place) | swapped_signature(place, forged_release(place)[INDEX]),
        "BAD_SIGNATURE",
    ),
}


def swapped_signature(place, index):
    """The signature of the true index, in the place of that of another."""
    files = place.files()
    (name,) = signed(index, "A")
    (true,) = signed(files[INDEX], "A")
    return {name: files[true]}


SEEN = [name for name in ATTACKS if name not in ("stripped root", "another key under the id", "another key and its root")]


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_forged_is_refused_by_name_where_a_key_is_pinned(place, attack):
    make, code = ATTACKS[attack]
    pin(place.address, "A")
    place.write(make(place))
    assert refused(place) == code


@pytest.mark.parametrize("attack", SEEN)
def test_what_is_forged_is_refused_where_the_signature_was_seen_before(place, attack):
    make, code = ATTACKS[attack]
    assert open_snapshot(place.address).signature.signers == (key("A"),)
    place.write(make(place))
    if attack.startswith("stripped"):  # the index itself was seen, and is as it was
        assert open_snapshot(place.address).index.number == 3
        place.write(forged_release(place))
    assert refused(place) == code


@pytest.mark.parametrize("attack", ["another key under the id", "another key and its root"])
def test_another_root_changes_nothing_for_a_reader_who_has_seen_the_first(place, attack):
    open_snapshot(place.address)
    place.write(ATTACKS[attack][0](place))
    assert refused(place) == "WRONG_SIGNER"


def test_a_forgery_that_was_refused_leaves_nothing_behind(place):
    pin(place.address, "A")
    true = place.files()
    files = {INDEX: open_snapshot(place.address).index.model_copy(update={"number": 10**9}).sealed()}
    place.write(files | signed(files[INDEX], "X"))
    assert refused(place) == "WRONG_SIGNER"
    place.write({INDEX: true[INDEX]})
    assert open_snapshot(place.address).index.number == 3


def test_a_swapped_file_is_refused_by_its_digest(place):
    pin(place.address, "A")
    other = tiny(version="1.1.0", seed=7).to_bytes()
    place.write({store_keys.blob(tiny(version="1.1.0", seed=1).digest): other})
    assert refused(place) in ("DIGEST_MISMATCH", "SIZE_MISMATCH")


def test_an_older_index_is_refused_by_a_reader_who_never_saw_a_later_one_once_it_has_expired(place):
    pin(place.address, "A")
    old = place.files()
    place.write(signed(old[INDEX], "A", days=-1))
    assert refused(place) == "SIGNATURE_EXPIRED"


def test_keys_that_expired_are_refused(place):
    pin(place.address, "A")
    place.write(root_of("A", days=-1))
    assert refused(place) == "KEYS_EXPIRED"
    with pytest.raises(PolicyError) as caught:
        open_snapshot(place.address)
    assert "`batteries key rotate`" in caught.value.remedy, "a refresh leaves the document of keys as it is"
    rotate(open_store(place.address, writable=True), signing("A"))
    assert open_snapshot(place.address).signature.signers == (key("A"),)


def test_an_expired_signature_is_told_of_where_no_key_is_pinned(place):
    place.write(signed(place.files()[INDEX], "A", days=-1))
    with pytest.warns(SignerWarning, match="SIGNATURE_EXPIRED"):
        assert open_snapshot(place.address).signature.expired


@pytest.fixture
def rotated(place):
    """A registry whose key A gave way to B."""
    rotate(writable(place), signing("A", "B"), add=[signer("B").public_key], remove=[key("A")])
    return place


def writable(place):
    return open_store(place.address, writable=True)


@pytest.mark.parametrize("pinned", ["A", "B"])
def test_a_revoked_key_signs_no_more(rotated, pinned):
    pin(rotated.address, pinned)
    assert open_snapshot(rotated.address).signature.signers == (key("B"),)
    files = forged_release(rotated)
    rotated.write(files | signed(files[INDEX], "A"))
    assert refused(rotated) == "KEY_REVOKED"


def test_a_registry_as_it_was_before_its_key_was_revoked_is_refused_by_a_reader_of_the_later_one(place):
    before = place.files()
    rotate(writable(place), signing("A", "B"), add=[signer("B").public_key], remove=[key("A")])
    later = open_snapshot(place.address).index
    place.write(dict.fromkeys(place.files()) | before)
    forged = later.refreshed().sealed()
    place.write({INDEX: forged} | signed(forged, "A"))
    assert refused(place) == "KEY_REVOKED"


@pytest.mark.parametrize(
    ("before", "after"), [((), ("A",)), (("A",), ("A", "B")), (("B",), ("A",)), (("A", "B"), ("A",)), (("A",), ("X", "A"))]
)
def test_a_key_that_was_seen_revoked_stays_so_under_other_pins(place, before, after):
    old = place.files()
    rotate(writable(place), signing("A", "B"), add=[signer("B").public_key], remove=[key("A")])
    if before:
        pin(place.address, *before)
    later = open_snapshot(place.address).index
    place.write(dict.fromkeys(place.files()) | old)
    forged = later.refreshed().sealed()
    place.write({INDEX: forged} | signed(forged, "A"))
    pin(place.address, *after)
    assert refused(place) == "KEY_REVOKED"


def test_a_gap_in_the_documents_of_keys_is_named(rotated):
    pin(rotated.address, "A")
    rotated.write({store_keys.root(2): None})
    assert refused(rotated) == "MISSING_ROOT"


def test_a_root_that_the_keys_before_it_did_not_sign_is_refused(place):
    pin(place.address, "A")
    chain = roots.read_chain([place.files()[store_keys.root(1)]], "")
    (true,) = chain.roots
    true.signed.version = 2
    for role in roots.ROLES:
        true.signed.add_key(signer("X").public_key, role)
    true.signatures.clear()
    place.write({store_keys.root(2): signed_documents.write(true, [signer("X")])})
    files = forged_release(place)
    place.write(files | signed(files[INDEX], "X", root=2))
    assert refused(place) == "BAD_SIGNATURE"


def test_fewer_keys_than_must_sign_are_refused(place):
    rotate(writable(place), signing("A", "B"), add=[signer("B").public_key], threshold=2)
    pin(place.address, "A")
    assert open_snapshot(place.address).signature.signers == tuple(sorted((key("A"), key("B"))))
    files = forged_release(place)
    place.write(files | signed(files[INDEX], "A", root=2))
    assert refused(place) == "TOO_FEW_SIGNERS"
    place.write(signed(files[INDEX], "A", "B", root=2))
    assert registry.pull("high/tiny", registry=place.address)[0].version == "9.0.0"


def test_another_pin_than_the_key_is_refused(place):
    pin(place.address, "X")
    assert refused(place) == "WRONG_SIGNER"


def test_a_pin_beats_what_was_seen_first(place):
    true = place.files()
    place.write(by("X", more=lambda place: root_of("X"))(place))
    assert open_snapshot(place.address).signature.signers == (key("X"),)
    pin(place.address, "A")
    assert refused(place) == "WRONG_SIGNER"
    place.write(dict.fromkeys(place.files()) | true)
    with pytest.raises(BatteriesError, match="ROLLBACK"):  # until its note is removed, as the remedy says
        open_snapshot(place.address)


def test_honest_changes_are_followed(place, elsewhere):
    pin(place.address, "A")
    open_snapshot(place.address)
    rotate(writable(place), signing("A", "B"), add=[signer("B").public_key], remove=[key("A")])
    refresh(writable(place), signing("B"))
    for _ in range(2):
        assert registry.pull("high/tiny@1.0.0", registry=place.address)[0].digest == CELL.digest
        elsewhere()
