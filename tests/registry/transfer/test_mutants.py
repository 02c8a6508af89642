"""Mutants of everything that is read: our errors only, at once, in little memory.

A mutant is one of two kinds. A *text* mutant damages bytes: flips, cuts, repeats, hostile numbers and names put in. A *tree*
mutant changes fields and is written canonically again (an index also gets the digest of its new content), so that it is the
schema that has to say no, and not the form.
"""

import json
import random
import re
import struct
from pathlib import Path

import pytest

from batteries.cell import weights_file
from batteries.errors import BatteriesError, FormatError
from tests.support.cells import DAMAGED, SPEC
from tests.support.costs import at_most
from tests.support.mutants import SEED, tried
from tests.support.readers import READERS, reader
from tests.support.readers.reader import padded
from tests.support.readers.sealed_files import BODY, FILES, HEADER
from tests.support.soak import many

pytestmark = pytest.mark.usefixtures("frozen_heap")

MEMORY = 64 * 2**20  # more than before, at the most, however many mutants
WANTED = {
    "model": {"JSON", "SCHEMA", "SCHEMA_NEWER", "NOT_CANONICAL", "DUPLICATE_KEY", "NUMBER", "TOO_DEEP", "COMPOSITION", "SEAL"}
    | {"ST_HEADER", "ST_TAIL", "ST_NOT_CANONICAL", "NOT_A_MODEL", "BLOCK_DIGEST"},
    "maps": {"JSON", "SCHEMA", "NOT_CANONICAL", "DUPLICATE_KEY", "NUMBER", "TOO_DEEP", "SEAL"}
    | {"ST_HEADER", "ST_TAIL", "ST_NOT_CANONICAL", "NOT_MAPS", "BLOCK_DIGEST", "NOT_A_ROTATION"},
    "maps manifest": {"JSON", "SCHEMA", "SCHEMA_NEWER", "NOT_CANONICAL", "DUPLICATE_KEY", "NUMBER", "TOO_DEEP"},
    "model manifest": {"JSON", "SCHEMA", "SCHEMA_NEWER", "NOT_CANONICAL", "DUPLICATE_KEY", "NUMBER", "TOO_DEEP"},
    "index of models": {"JSON", "SCHEMA", "SCHEMA_NEWER", "NOT_CANONICAL", "NUMBER", "TOO_DEEP", "INDEX_DIGEST"},
    "manifest": {"JSON", "SCHEMA", "SCHEMA_NEWER", "NOT_CANONICAL", "DUPLICATE_KEY", "NUMBER", "TOO_DEEP"},
    "weights of a cell": {
        "JSON",
        "DUPLICATE_KEY",
        "NUMBER",
        "TOO_DEEP",
        "ST_HEADER",
        "ST_NAME",
        "ST_ROW",
        "ST_DTYPE",
        "ST_EXTENT",
    }
    | {"ST_TENSORS", "ST_HOLE", "ST_TAIL", "ST_NOT_CANONICAL", "NON_FINITE"},
    "index": {"JSON", "SCHEMA", "SCHEMA_NEWER", "NOT_CANONICAL", "DUPLICATE_KEY", "NUMBER", "TOO_DEEP", "INDEX_DIGEST"},
    "lock": {"JSON", "SCHEMA", "SCHEMA_NEWER", "NOT_CANONICAL", "DUPLICATE_KEY", "NUMBER", "TOO_DEEP"},
    "attestation": {"JSON", "SCHEMA", "NOT_CANONICAL", "DUPLICATE_KEY", "NUMBER", "TOO_DEEP"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_mutants_are_refused_by_name_or_are_what_they_say(name):
    tried(name, range(10))  # what is made once
    before = memory(forget=True)
    found = tried(name, range(many(5000 if name in WANTED else 100, 5000)))
    assert not found.wrong, f"seed {SEED}, {name}: {found.wrong}"
    assert memory() - before < MEMORY
    assert found.taken, "not one was well-formed: the mutants are too coarse"
    assert found.codes.keys() >= WANTED.get(name, set()), f"never reached: {WANTED[name] - found.codes.keys()}"


def memory(*, forget: bool = False) -> int:
    """The most memory that this process held so far, or since it was forgotten; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    if forget:
        Path("/proc/self/clear_refs").write_text("5")
    peak = re.search(r"VmHWM:\s+(\d+)", status.read_text())
    return int(peak[1]) * 1024 if peak else 0


@pytest.mark.parametrize("name", READERS)
def test_the_good_ones_are_good(name):
    kind = reader(name)
    whole = kind.file(kind.text, random.Random(0))
    assert kind.read(whole) == whole
    assert kind.read(kind.file(kind.seal(kind.tree(kind.text)), random.Random(0)))


FILLINGS = {
    "open lists": lambda n: b"[" * n,
    "empty lists": lambda n: b"[" + b"[]," * (n // 3 - 1) + b"0]",
    "zeros": lambda n: b"[" + b"0," * (n // 2 - 1) + b"0]",
    "a text": lambda n: b'"' + b"a" * (n - 2) + b'"',
    "open texts": lambda n: b'"' * n,
    "escaped quotes": lambda n: b'"' + b'\\"' * (n // 2 - 1),
    "backslashes": lambda n: b'"' + b"\\" * (n - 2),
    "digits": lambda n: b"9" * n,
    "decimals": lambda n: b"1." + b"3" * (n - 2),
    "zero bytes": lambda n: bytes(n),
    "spaces": lambda n: b" " * n,
    "one key": lambda n: b"{" + b'"a":0,' * (n // 6 - 2) + b'"a":0}',
    "many keys": lambda n: b"{" + b",".join(b'"%06x":0' % i for i in range(n // 11 - 1)) + b"}",
    "many cells": lambda n: b'{"cells":{' + b",".join(b'"%06x":{}' % i for i in range(n // 12 - 2)) + b"}}\n",
}
SIZES = {
    "model": 2**18,
    "maps": 2**18,
    "maps manifest": 2**16,
    "model manifest": 2**16,
    "index of models": 2**18,
    "manifest": 2**16,
    "weights of a cell": 2**16,
    "attestation": 2**18,
    "index": 2**18,
    "lock": 2**18,
}  # those of the manifests and of the header are the limits


@pytest.mark.parametrize("filling", FILLINGS)
@pytest.mark.parametrize("name", SIZES)
def test_the_worst_that_fits_is_refused_at_once(name, filling):
    data = reader(name).file(FILLINGS[filling](SIZES[name]), random.Random(0))
    assert len(data) <= 2 * SIZES[name] + max(map(len, FILES.values()))  # a document is quoted in its header
    with at_most(seconds=1), pytest.raises(BatteriesError, match=f"{DAMAGED}|ST_ROW|ST_HEADER"):
        reader(name).read(data)


def test_the_same_tensors_in_other_bytes_are_refused():
    rows = json.loads(HEADER)
    moved = dict(reversed(rows.items()))
    for text in (padded(moved), HEADER + b" " * 8, json.dumps(rows).encode()):
        with pytest.raises(FormatError) as caught:
            weights_file.read(struct.pack("<Q", len(text)) + text + BODY, SPEC, where="a file")
        assert caught.value.code == "ST_NOT_CANONICAL"
