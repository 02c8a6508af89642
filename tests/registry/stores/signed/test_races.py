"""Signers who race: each change comes after those that overtook it, and no key signs what was changed without one meanwhile."""

import sys

import pytest

from batteries.errors import ConflictError, IntegrityError, NotFoundError, PolicyError
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.stores.memory import MemoryStore
from registry.stores.signed import changes
from registry.stores.signed.damage import signed_faults
from registry.stores.signed.rotation import refresh, rotate
from registry.stores.snapshot import Snapshot
from tests.support.cells import publish, tiny
from tests.support.signing import CELL, QUIETLY, key, signed, signer, signing

pytestmark = QUIETLY


def another_view(view, store):
    """The same files as another writer sees them, whom none overtakes."""
    view._held, view._index, view._lock = store._held, store._index, store._lock
    return view


class Earlier(MemoryStore):
    """A store as a writer saw it who looked before there were documents of keys."""

    def read(self, key, *, limit):
        if key.startswith(f"{store_keys.TRUST}/"):
            raise NotFoundError("none yet", code="NO_FILE")
        return super().read(key, limit=limit)


class Contended(MemoryStore):
    """A store whose index another writer changes before each of the first swaps."""

    def __init__(self, times, names):
        super().__init__()
        self.times, self.names = times, names

    def swap_index(self, expected, data):
        if self.times:
            self.times -= 1
            store = another_view(MemoryStore() if self.names else Earlier(), self)
            publish(tiny(f"other{self.times}"), store, signing(*self.names) if self.names else None)
            self._index = store._index
        super().swap_index(expected, data)


def test_signers_who_race_sign_one_after_the_other():
    store = Contended(0, ("B",))
    publish(CELL, store, signing("A", "B"))
    store.times = 3
    publish(tiny(version="1.1.0"), store, signing("A"))
    snapshot = Snapshot.take(store)
    assert (snapshot.index.number, snapshot.signature.signers) == (5, (key("A"),))


@pytest.mark.parametrize("times", [1, 3])
def test_the_first_signer_who_is_overtaken_by_writers_without_a_key_signs_after_them(monkeypatch, times):
    monkeypatch.setattr(sys.modules[changes.__name__], "PAUSE", 0.0)
    store = Contended(0, ())
    publish(CELL, store)
    store.times = times
    assert publish(tiny(version="1.1.0"), store, signing("A")).number == times + 2
    snapshot = Snapshot.take(store)
    assert snapshot.signature.signers == (key("A"),)
    assert {f"high/other{n}" for n in range(times)} <= set(snapshot.index)


REFRESH = lambda store: refresh(store, signing("A", "B"), releases=True)  # noqa: E731
ROTATE = lambda store: rotate(store, signing("A", "B"), add=[signer("B").public_key], remove=[key("A")])  # noqa: E731


@pytest.mark.parametrize(("change", "by"), [(REFRESH, "A"), (ROTATE, "B")], ids=["refresh", "rotate"])
def test_a_change_of_keys_or_signature_that_other_signers_overtake_comes_after_theirs(change, by):
    store = Contended(0, ("A",))
    publish(CELL, store, signing("A"))
    store.times = 3
    change(store)
    snapshot = Snapshot.take(store)
    assert snapshot.signature.signers == (key(by),)
    assert {"high/tiny", "high/other0", "high/other1", "high/other2"} == set(snapshot.index)
    assert not signed_faults(store, snapshot.index)


@pytest.mark.parametrize("change", [REFRESH, ROTATE], ids=["refresh", "rotate"])
def test_no_key_signs_what_another_writer_changed_without_one_meanwhile(change):
    store = Contended(0, ())
    publish(CELL, store, signing("A"))
    store.times = 1
    with pytest.raises(IntegrityError, match="UNSIGNED"):
        change(store)


def test_the_first_signature_is_not_given_to_what_another_writer_changed_meanwhile():
    store = Contended(0, ())
    publish(CELL, store)
    store.times = 1
    with pytest.raises(ConflictError, match="INDEX_MOVED"):
        refresh(store, signing("A"))
    assert refresh(store, signing("A")).number == 3


def test_a_writer_without_a_key_who_was_overtaken_by_the_first_signer_is_refused(monkeypatch):
    monkeypatch.setattr(sys.modules[changes.__name__], "PAUSE", 0.0)
    store = Contended(1, ("A",))
    with pytest.raises(PolicyError, match="SIGNER_NEEDED"):
        publish(CELL, store)
    assert "high/tiny" not in Snapshot.take(store).index


class Rotated(MemoryStore):
    """A store whose keys another signer changes before the first signature of a further one."""

    rotated = True

    def put(self, name, data):
        if name.startswith(f"{store_keys.SIGNATURES}/") and not self.rotated:
            self.rotated = True
            store = another_view(MemoryStore(), self)
            rotate(store, signing("A", "B"), remove=[key("A")])
            self._index = store._index
        super().put(name, data)


def test_a_signature_of_the_same_index_under_later_keys_is_no_fault_of_the_registry():
    """Two changes without new contents have the same bytes."""
    store = Rotated()
    publish(CELL, store, signing("A", "B"))
    store.rotated = False
    assert refresh(store, signing("A", "B")).number == 3
    assert Snapshot.take(store).signature.signers == (key("B"),)


LEFT = {
    "no document": lambda index: b"{}",
    "of another key": lambda index: signed(index, "X"),
    "of a revoked key": lambda index: signed(index, "A"),
    "expired": lambda index: signed(index, "B", days=-9),
}


@pytest.mark.parametrize("name", LEFT)
def test_a_signature_that_an_interrupted_writer_left_for_the_next_index_blocks_none(name):
    store = MemoryStore()
    publish(CELL, store, signing("A"))
    ROTATE(store)
    present = Index.from_bytes(store.read_index(), where="")
    following = present.refreshed().sealed()
    (place,) = signed(following, "B")
    left = LEFT[name](following)
    store.put(place, left if isinstance(left, bytes) else left[place])
    assert refresh(store, signing("B")).number == present.number + 2
    assert Snapshot.take(store).signature.signers == (key("B"),)
    publish(tiny("third"), store, signing("B"))
    assert "high/third" in Snapshot.take(store).index
