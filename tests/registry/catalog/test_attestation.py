import json

import pytest

from batteries.errors import FormatError
from batteries.io.canonical_json import dump
from registry.catalog.attestation import Attestation
from tests.support.cells import attestation, tiny


def test_round_trip():
    data = attestation(tiny()).to_bytes()
    assert Attestation.from_bytes(data, where="test") == attestation(tiny())


CHANGES = {
    "no version": ({"reference": "high/tiny"}, "SCHEMA"),
    "a digest": ({"reference": "high/tiny@sha256:" + "a" * 64}, "SCHEMA"),
    "a registry": ({"reference": "lab/high/tiny@1.0.0"}, "SCHEMA"),
    "no reference": ({"reference": "tiny"}, "SCHEMA"),
    "no digest": ({"cell": "tiny"}, "SCHEMA"),
    "a protocol that is a path": ({"protocol": "../quick"}, "SCHEMA"),
    "a verdict nobody gives": ({"verdict": "fine"}, "SCHEMA"),
    "a key too many": ({"seconds": 12.5}, "SCHEMA"),
    "a newer schema": ({"schema_version": "2.0"}, "SCHEMA_NEWER"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_no_attestation(name):
    changes, code = CHANGES[name]
    data = dump({**json.loads(attestation(tiny()).to_bytes()), **changes})
    with pytest.raises(FormatError) as caught:
        Attestation.from_bytes(data, where="test")
    assert caught.value.code == code
