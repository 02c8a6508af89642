"""Documents of another kind, place or age than the one asked for, all of them well signed."""

import pytest

from batteries.errors import FormatError, IntegrityError, PolicyError
from registry.catalog.release import Pin
from registry.trust import roots, signed_documents
from registry.trust.index_signatures import sign_index
from registry.trust.release_signatures import check_release, sign_release
from registry.trust.signature import Signature, refuse_others
from tests.support.signing import key, signer

EXPIRES = signed_documents.in_days(9)
PINS = {"low/a/1.0.0.json": Pin.of(b"manifest")}
ROOT = roots.first_root([signer("A")], EXPIRES)


def chain():
    return roots.read_chain([ROOT], "here")


def following(before, **words):
    signers = {signer(name).public_key.keyid: signer(name) for name in "AB"}
    return roots.next_root(before, signers=signers, expires=EXPIRES, add=[], remove=[], threshold=None, **words)


def test_a_signature_is_no_document_of_keys():
    document = sign_index(Pin.of(b"index"), 1, 1, [signer("A")], EXPIRES)
    with pytest.raises(FormatError, match="targets"):
        roots.read_chain([document], "here")


@pytest.mark.parametrize("documents", [[ROOT, ROOT], [following(chain())]], ids=["twice", "the second first"])
def test_a_document_of_keys_out_of_its_place_is_refused(documents):
    with pytest.raises(FormatError, match="out of its place"):
        roots.read_chain(documents, "here")


def test_there_are_no_more_changes_of_keys_than_are_read(monkeypatch):
    monkeypatch.setattr(roots, "MAX_ROOTS", 3)
    documents = [ROOT]
    for _ in range(2):
        documents.append(following(roots.read_chain(documents, "here")))
    with pytest.raises(PolicyError, match="TOO_MANY_ROOTS"):
        following(roots.read_chain(documents, "here"))


def test_a_release_without_a_time_of_signing_is_refused():
    from tuf.api.metadata import Metadata

    document = Metadata.from_bytes(sign_release(PINS, [signer("A")], EXPIRES))
    del document.signed.unrecognized_fields["x-issued"]
    document.signatures.clear()
    data = signed_documents.write(document, [signer("A")])
    with pytest.raises(IntegrityError, match="a time of signing"):
        check_release(PINS, data, where="here")


def test_who_asks_for_a_signer_takes_no_other_and_nothing_unsigned():
    by = Signature(state="signed", signers=(key("A"),), issued="", expires="")
    refuse_others([key("A"), key("B")], "here", by)
    refuse_others([], "here", Signature(state="not signed"))
    with pytest.raises(IntegrityError, match="UNSIGNED"):
        refuse_others([key("A")], "here", Signature(state="not signed"))
    with pytest.raises(IntegrityError, match="WRONG_SIGNER"):
        refuse_others([key("B")], "here", by)
    with pytest.raises(PolicyError, match="EXTRA"):
        refuse_others([key("B")], "here", by, Signature(state="not checked"))
