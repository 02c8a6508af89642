"""Files of keys from any hand: refused by name, at once and in little memory, whatever they ask a library to do."""

import base64
import os
import random

import pytest

from batteries.errors import BatteriesError, ConflictError, FormatError, StoreWarning
from batteries.io.temporary_files import temporary_of
from registry.trust import keys, pem_block
from registry.trust.keys import make_key, public_file, read_public, read_signer
from tests.support.costs import at_most

ENCRYPTED, PRIVATE, PUBLIC = "ENCRYPTED PRIVATE KEY", "PRIVATE KEY", "PUBLIC KEY"
PBES2, PBKDF2, SCRYPT, AES = "2a864886f70d01050d", "2a864886f70d01050c", "2b06010401da47040b", "60864801650304012a"
RSA, EC, UNKNOWN = "2a864886f70d010101", "2a8648ce3d0201", "2a030405"


def der(tag, *parts):
    content = b"".join(parts)
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x82, *size.to_bytes(2, "big")])
    return bytes([tag]) + length + content


def sequence(*parts):
    return der(0x30, *parts)


def name(digits):
    return der(6, bytes.fromhex(digits))


def number(value):
    return der(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def text(data):
    return der(4, data)


def pem(label, data):
    return f"-----BEGIN {label}-----\n{base64.encodebytes(data).decode()}-----END {label}-----\n".encode()


def locked(derivation, *numbers):
    kdf = sequence(name(derivation), sequence(text(b"saltsalt"), *map(number, numbers)))
    return pem(ENCRYPTED, sequence(sequence(name(PBES2), sequence(kdf, sequence(name(AES), text(bytes(16))))), text(bytes(64))))


def rsa(bits):
    """An RSA key of the right size, of numbers that are not prime."""
    whole, half = (1 << bits) - 1, (1 << bits // 2) - 1
    numbers = (0, whole, 65537, whole - 2, half, half - 2, half - 4, half - 6, half - 8)
    return pem(PRIVATE, sequence(number(0), sequence(name(RSA), der(5)), text(sequence(*map(number, numbers)))))


def nested(depth):
    return sequence(nested(depth - 1)) if depth else b""


def unknown(algorithm, *of):
    return pem(PRIVATE, sequence(number(0), sequence(name(algorithm), *of), text(bytes(32))))


BROKEN = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nwithout an end\n"  # asks for no passphrase
COSTLY = {
    "an hour of PBKDF2": locked(PBKDF2, 2**34),
    "two gigabytes of scrypt": locked(SCRYPT, 2**21, 8, 1),
    "wide blocks of scrypt": locked(SCRYPT, 2**10, 2**20, 1, 32),
    "many lanes of scrypt": locked(SCRYPT, 2**14, 8, 2**12, 32),
    "RSA of 8,192 bits": rsa(8192),
    "an unknown algorithm": unknown(UNKNOWN),
    "an unknown curve": unknown(EC, name(UNKNOWN)),
    "sequences in sequences": pem(ENCRYPTED, nested(200)),
    "a length beyond the end": pem(ENCRYPTED, bytes.fromhex("308affffffffffffffffffff")),
    "no base64": b"-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n",
}


@pytest.mark.parametrize("attack", COSTLY)
def test_a_private_file_costs_no_more_than_a_key(tmp_path, attack):
    path = tmp_path / "key.pem"
    path.write_bytes(COSTLY[attack])
    with at_most(seconds=0.5), pytest.raises(FormatError, match="KEY_FORMAT"):
        read_signer(path, lambda words: "sesame")


@pytest.mark.parametrize("algorithm", [sequence(name(UNKNOWN)), sequence(name(EC), name(UNKNOWN))])
def test_a_public_file_of_an_unknown_algorithm_is_no_key(tmp_path, algorithm):
    path = tmp_path / "key.pem.pub"
    path.write_bytes(pem(PUBLIC, sequence(algorithm, der(3, bytes(33)))))
    with pytest.raises(FormatError, match="Ed25519"):
        read_public(path)


@pytest.mark.parametrize("before", [b"", b"a remark\n", pem("RSA PRIVATE KEY", bytes(9)), BROKEN])
def test_what_is_bounded_is_what_is_read(tmp_path, before):
    path = tmp_path / "key.pem"
    made = make_key(path)
    path.write_bytes(before + path.read_bytes() + COSTLY["RSA of 8,192 bits"])
    assert read_signer(path, pytest.fail).public_key == made


@pytest.mark.parametrize("numbers", [(PBKDF2, 600_000, 32), (SCRYPT, 2**14, 8, 1), (SCRYPT, 2**16, 8, 1, 32)])
def test_what_other_programs_ask_for_is_tried(tmp_path, numbers):
    assert pem_block.read(locked(*numbers), pem_block.PRIVATE) == locked(*numbers)


@pytest.mark.parametrize("passphrase", [None, "sesame"])
def test_damaged_files_of_keys_are_read_or_refused_by_name(tmp_path, monkeypatch, passphrase):
    path, rng = tmp_path / "key.pem", random.Random(3)
    make_key(path, passphrase)
    monkeypatch.setenv(keys.PASSPHRASE, "sesame")
    for place, read in (
        (path, lambda: read_signer(path, pytest.fail)),
        (public_file(path), lambda: read_public(public_file(path))),
    ):
        first, *lines, last = place.read_bytes().splitlines()
        for _ in range(150):
            data = bytearray(base64.b64decode(b"".join(lines)))
            data[rng.randrange(len(data))] = rng.randrange(256)
            place.write_bytes(b"\n".join([first, base64.b64encode(data), last]))
            assert code_of(read) in {"read", "KEY_FORMAT", "PASSPHRASE"}


def code_of(read):
    try:
        read()
    except BatteriesError as error:
        return error.code
    return "read"


@pytest.mark.parametrize("mode", [0o640, 0o604])
@pytest.mark.parametrize("link", [False, True])
def test_a_private_key_that_others_can_read_is_told_of(tmp_path, mode, link):
    path, named = tmp_path / "key.pem", tmp_path / "link.pem"
    made = make_key(path)
    named.symlink_to(path)
    path.chmod(mode)
    with pytest.warns(StoreWarning, match="OPEN_KEY"):
        assert read_signer(named if link else path, pytest.fail).public_key == made


def test_an_encrypted_key_may_be_read_by_others(tmp_path):
    path = tmp_path / "key.pem"
    made = make_key(path, "sesame")
    path.chmod(0o644)
    assert read_signer(path, lambda words: "sesame").public_key == made


def test_a_private_file_in_place_of_a_public_one_is_named(tmp_path):
    make_key(tmp_path / "key.pem")
    with pytest.raises(FormatError, match="expected a public key in PEM"):
        read_public(tmp_path / "key.pem")
    with pytest.raises(FormatError, match="expected a private key in PEM"):
        read_signer(tmp_path / "key.pem.pub", pytest.fail)


def test_what_a_killed_writer_of_a_key_left_is_removed_and_a_public_file_alone_is_named(tmp_path):
    gone = temporary_of(tmp_path / "mine.pem")
    gone = gone.with_name(gone.name.replace(f".{os.getpid()}.", ".999999999."))
    gone.write_bytes(b"half of a private key")
    (tmp_path / "mine.pem.pub").write_bytes(b"a public key")
    with pytest.raises(ConflictError, match="KEY_EXISTS") as caught:
        make_key(tmp_path / "mine.pem")
    assert "no private file is beside it" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.pem.pub"]
