"""Documents with more keys than checking them may cost: refused unread, and never written."""

import pytest

from batteries.errors import FormatError, PolicyError
from registry.catalog.release import Pin
from registry.trust import roots, signed_documents
from registry.trust.release_signatures import check_release, sign_release
from registry.trust.signed_documents import MAX_KEYS
from tests.support.costs import at_most
from tests.support.signing import signer

EXPIRES = signed_documents.in_days(9)
PINS = {"low/a/1.0.0.json": Pin.of(b"manifest")}
FEW = [signer(f"key {number}") for number in range(MAX_KEYS)]
MANY = [*FEW, signer("one more")]


@pytest.fixture
def no_bound(monkeypatch):
    """Let a hostile hand write what this package does not."""
    monkeypatch.setattr(signed_documents, "refuse_many", lambda ids: None)


def test_as_many_keys_as_may_sign_are_read():
    assert len(roots.read_chain([roots.first_root(FEW, EXPIRES)], "here").keys) == MAX_KEYS
    assert len(check_release(PINS, sign_release(PINS, FEW, EXPIRES), where="here").signers) == MAX_KEYS


def test_more_keys_are_refused_before_their_signatures_are_checked(no_bound):
    root, release = roots.first_root(MANY, EXPIRES), sign_release(PINS, MANY, EXPIRES)
    for read in (
        lambda: roots.read_chain([root] * roots.MAX_ROOTS, "here"),
        lambda: check_release(PINS, release, where="here"),
    ):
        with at_most(seconds=0.1), pytest.raises(FormatError, match=f"{MAX_KEYS + 1} keys for one role"):
            read()


def test_more_keys_are_not_written():
    chain = roots.read_chain([roots.first_root(FEW, EXPIRES)], "here")
    signers = {one.public_key.keyid: one for one in FEW}
    for write in (
        lambda: roots.first_root(MANY, EXPIRES),
        lambda: sign_release(PINS, MANY, EXPIRES),
        lambda: roots.next_root(chain, add=[MANY[-1].public_key], signers=signers, expires=EXPIRES),
    ):
        with pytest.raises(PolicyError, match="TOO_MANY_KEYS"):
            write()
