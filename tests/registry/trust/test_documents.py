"""Signed documents from any hand: typed errors, at once, in little memory; and keys in files."""

import json
import os
import random
import stat
from pathlib import Path

import pytest

from batteries.errors import BatteriesError, ConflictError, FormatError, InputError
from batteries.io import atomic_files
from registry.catalog.release import Pin
from registry.trust import keys, roots, signed_documents
from registry.trust.index_signatures import check_index, sign_index
from registry.trust.release_signatures import check_release, sign_release
from registry.trust.signature import Signature
from registry.trust.signing import Signing
from tests.support.costs import at_most
from tests.support.signing import key, signer

INDEX = Pin.of(b"an index")
PINS = {"low/a/1.0.0.json": Pin.of(b"manifest"), "blobs/" + "0" * 64: Pin.of(b"file")}


@pytest.fixture(scope="module")
def root():
    return roots.first_root([signer("A")], signed_documents.in_days(9))


@pytest.fixture(scope="module")
def chain(root):
    return roots.read_chain([root], "here")


@pytest.fixture(scope="module")
def signature():
    return sign_index(INDEX, 7, 1, [signer("A")], signed_documents.in_days(9))


@pytest.fixture(scope="module")
def release():
    return sign_release(PINS, [signer("A")], signed_documents.in_days(9))


@pytest.fixture(params=["root", "signature", "release"])
def reader(request, root, chain, signature, release):
    """Bytes of a document, and what reads them."""
    return {
        "root": (root, lambda data: roots.read_chain([data], "here")),
        "signature": (signature, lambda data: check_index(INDEX, 7, data, chain, "here")),
        "release": (release, lambda data: check_release(PINS, data, where="here")),
    }[request.param]


def refused(read, data):
    with pytest.raises(BatteriesError) as caught:
        read(data)
    assert caught.value.exit_code == 4, caught.value


def test_true_ones_are_read(reader):
    data, read = reader
    assert read(data)


def test_every_flipped_bit_is_refused(reader):
    data, read = reader
    generator = random.Random(0)
    for place in generator.sample(range(len(data)), 120):
        for bit in generator.sample(range(8), 3):
            damaged = bytearray(data)
            damaged[place] ^= 1 << bit
            refused(read, bytes(damaged))


def test_every_truncation_is_refused(reader):
    data, read = reader
    for length in range(0, len(data), 7):
        refused(read, data[:length])


BOMBS = {
    "size": b'{"a": "' + b"x" * 2**20 + b'"}',
    "depth": b"[" * 60_000,
    "lists": b"[" + b"[]," * 20_000 + b"[]]",
    "number": b'{"signatures": [], "signed": {"_type": "root", "version": ' + b"9" * 60_000 + b"}}",
    "duplicates": b'{"signed": {}, "signed": {}}',
    "other kind": b'{"signatures":[],"signed":{"_type":"timestamp"}}',
    "no object": b"[]",
    "null": b"null",
    "nothing": b"",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused_at_once(reader, frozen_heap, bomb):
    with at_most(seconds=1):
        refused(reader[1], BOMBS[bomb])


def fields(value, path=()):
    """Every place in a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from fields(part, (*path, name))


def replaced(value, path, new):
    copy = json.loads(json.dumps(value))
    target = copy
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = new
    return json.dumps(copy, separators=(",", ":"), sort_keys=True).encode()


@pytest.mark.parametrize("new", [None, True, 0, -1, 1.5, 2**70, "", "x", [], {}, [[]], {"x": {}}], ids=repr)
def test_every_field_of_another_kind_is_refused(reader, new):
    data, read = reader
    value = json.loads(data)
    for path in [*fields(value)][1:]:
        other = replaced(value, path, new)
        if json.loads(other) != value or other != data:
            refused(read, other)


def resigned(data, change):
    """A document that was changed, and signed by its own key."""
    found = signed_documents.read(data, json.loads(data)["signed"]["_type"], where="")
    change(found.signed)
    found.signatures.clear()
    return signed_documents.write(found, [signer("A")])


def test_a_key_under_another_id_is_refused(root):
    with pytest.raises(FormatError, match="own id"):
        roots.read_chain([root.replace(key("A").encode(), key("B").encode())], "here")


@pytest.mark.parametrize("threshold", [2, 0.5, True])
def test_thresholds_that_mean_nothing_are_refused(root, threshold):
    def change(signed):
        signed.roles["root"].threshold = threshold

    with pytest.raises((FormatError, BatteriesError), match=r"SIGNATURE_FORMAT"):
        roots.read_chain([root.replace(b'"threshold":1', f'"threshold":{json.dumps(threshold)}'.encode())], "here")


def test_keys_of_other_schemes_are_refused(root):
    from securesystemslib.signer import CryptoSigner

    other = CryptoSigner.generate_ecdsa().public_key
    with pytest.raises(FormatError, match="Ed25519"):
        roots.read_chain([resigned(root, lambda signed: signed.add_key(other, "targets"))], "here")


def test_an_index_of_another_number_and_another_target_are_refused(chain, signature):
    def rename(signed):
        signed.targets["other.json"] = signed.targets.pop("index.json")

    for data, number in ((signature, 8), (resigned(signature, rename), 7)):
        with pytest.raises(BatteriesError, match="BAD_SIGNATURE"):
            check_index(INDEX, number, data, chain, "here")


def test_a_release_under_another_name_is_refused(release):
    other = {name.replace("low/a", "low/b"): pin for name, pin in PINS.items()}
    with pytest.raises(BatteriesError, match="BAD_SIGNATURE"):
        check_release(other, release, where="here")


def test_a_release_that_lists_a_key_which_did_not_sign_is_not_signed_by_it(release):
    def join(signed):
        signed.delegations.keys[key("B")] = signer("B").public_key
        signed.delegations.roles["publisher"].keyids.append(key("B"))

    assert check_release(PINS, resigned(release, join), where="here").signers == (key("A"),)


# Keys in files.


def test_a_key_is_made_read_and_never_replaced(tmp_path, capfd):
    path = tmp_path / "key.pem"
    made = keys.make_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.read_signer(path, pytest.fail).public_key == made == keys.read_public(keys.public_file(path))
    assert keys.key_ids([str(keys.public_file(path)), made.keyid]) == (made.keyid,)
    before = path.read_bytes()
    with pytest.raises(ConflictError, match="KEY_EXISTS"):
        keys.make_key(path)
    assert path.read_bytes() == before
    assert path.read_text().split("\n")[1] not in "".join(capfd.readouterr())


@pytest.mark.parametrize("there", ["key.pem", "key.pem.pub"])
def test_a_key_that_is_not_made_leaves_no_half_of_it(tmp_path, there):
    (tmp_path / there).write_text("another")
    with pytest.raises(ConflictError, match="KEY_EXISTS"):
        keys.make_key(tmp_path / "key.pem")
    assert [path.name for path in tmp_path.iterdir()] == [there]


def test_no_public_file_stays_where_the_private_one_cannot_be_written(tmp_path, monkeypatch):
    create = atomic_files.create

    def interrupted(path, data, **more):
        if path.suffix == ".pem":
            raise KeyboardInterrupt("now")
        return create(path, data, **more)

    monkeypatch.setattr(atomic_files, "create", interrupted)
    with pytest.raises(KeyboardInterrupt, match="now"):
        keys.make_key(tmp_path / "key.pem")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_key_needs_the_name_of_a_file(name):
    with pytest.raises(InputError, match="KEY"):
        keys.make_key(Path(name))


def test_an_encrypted_key_needs_its_passphrase(tmp_path, monkeypatch):
    path = tmp_path / "key.pem"
    made = keys.make_key(path, "sesame")
    assert keys.read_signer(path, lambda words: "sesame").public_key == made
    with pytest.raises(InputError, match="PASSPHRASE"):
        keys.read_signer(path, lambda words: "other")
    monkeypatch.setenv(keys.PASSPHRASE, "sesame")
    assert keys.read_signer(path, pytest.fail).public_key == made


def test_a_passphrase_of_any_bytes_and_none_that_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setenv(keys.PASSPHRASE, os.fsdecode(b"\xff\xfe"))
    made = keys.make_key(tmp_path / "key.pem", os.environ[keys.PASSPHRASE])
    assert keys.read_signer(tmp_path / "key.pem", pytest.fail).public_key == made
    with pytest.raises(InputError, match="PASSPHRASE"):
        keys.make_key(tmp_path / "other.pem", "x" * 1024)
    monkeypatch.setenv(keys.PASSPHRASE, "x" * 1024)
    with pytest.raises(InputError, match="PASSPHRASE"):
        keys.read_signer(tmp_path / "key.pem", pytest.fail)
    assert not (tmp_path / "other.pem.pub").exists()


@pytest.mark.parametrize("data", [b"", b"text", b"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n", b"\xff" * 99])
def test_what_is_no_key_is_refused(tmp_path, data):
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    for read in (lambda: keys.read_signer(path, pytest.fail), lambda: keys.read_public(path), lambda: Signing.read(path)):
        with pytest.raises(FormatError, match="KEY_FORMAT"):
            read()


def test_keys_of_another_kind_are_refused(tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private, pem = ec.generate_private_key(ec.SECP256R1()), serialization.Encoding.PEM
    path, public = tmp_path / "key.pem", tmp_path / "key.pem.pub"
    plain = serialization.NoEncryption()
    path.write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    for read in (lambda: keys.read_signer(path, pytest.fail), lambda: keys.read_public(public)):
        with pytest.raises(FormatError, match="Ed25519"):
            read()


def test_neither_an_id_nor_a_file(tmp_path):
    for text in ("ABC", "f" * 63, str(tmp_path), str(tmp_path / "missing")):
        with pytest.raises(InputError, match="KEY"):
            keys.key_ids([text])


def test_days_and_keys_of_a_signing(tmp_path):
    keys.make_key(tmp_path / "key.pem")
    for days in (0, -1, 10**6):
        with pytest.raises(InputError, match="DAYS"):
            Signing.read(tmp_path / "key.pem", days=days)
    with pytest.raises(InputError, match="KEY"):
        Signing.read()
    assert len(Signing.read(tmp_path / "key.pem", tmp_path / "key.pem").signers) == 1


def test_a_signature_in_words():
    assert Signature(state="signed", signers=("ab" * 32,)).words == "signed by abababababababab"
    assert not Signature(state="signed", expires="2999-01-01T00:00:00Z").expired
    assert Signature(state="signed", expires="2001-01-01T00:00:00Z").expired
