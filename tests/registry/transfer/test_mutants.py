"""Mutated manifests, headers, indexes, locks, attestations and composed models: our errors only, at once, in little memory.

A mutant is one of two kinds. A *text* mutant damages bytes: flips, cuts, repeats, hostile numbers and names put in. A *tree*
mutant changes fields and is written canonically again (an index also gets the digest of its new content), so that it is the
schema that has to say no, and not the form.
"""

import json
import random
import re
import struct
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from batteries.cell import weights_file
from batteries.cell.manifest import Manifest
from batteries.errors import BatteriesError, FormatError
from batteries.io import canonical_json
from composer import pack
from composer.artifact import MapsManifest, ModelManifest, PackedLabel
from composer.artifact.form import ArtifactForm
from composer.artifact.kinds import FORMS
from composer.sealed import file_format
from registry.catalog.attestation import Attestation
from registry.catalog.index import Index
from registry.catalog.release import PackedRelease
from registry.stores.memory import MemoryStore
from registry.stores.snapshot import open_snapshot
from registry.transfer.lockfile import Lock
from registry.transfer.remarks import attest
from tests.support.cells import DAMAGED, SPEC, attestation, publish, tiny
from tests.support.maps import consensus, container
from tests.support.models import least
from tests.support.mutants import text_mutant, tree_mutant
from tests.support.soak import many

pytestmark = pytest.mark.usefixtures("frozen_heap")

SEED = 5
SECONDS = 1.0  # of one processor, for one mutant
MEMORY = 64 * 2**20  # more than before, at the most, however many mutants


@dataclass(frozen=True)
class Kind:
    """Something that is read: a good text, how a text becomes a file, and reading, which gives the bytes it writes again."""

    text: bytes
    file: Callable[[bytes, random.Random], bytes]
    seal: Callable[[Any], bytes]
    read: Callable[[bytes], bytes]


def plain(text: bytes, rng: random.Random) -> bytes:
    return text


def dumped(value: Any) -> bytes:
    """Canonical, but for what canonical JSON cannot hold: NaN, infinity, half a character."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass") + b"\n"


def resealed(value: Any) -> bytes:
    """An index with the right digest of its content, whatever became of that."""
    if isinstance(value, dict) and "sha256" in value:
        content = {key: inner for key, inner in value.items() if key != "sha256"}
        value = {**content, "sha256": canonical_json.sha256(dumped(content))}
    return dumped(value)


GOOD = tiny().to_bytes()
HEADER = GOOD[8 : 8 + struct.unpack("<Q", GOOD[:8])[0]]
BODY = GOOD[8 + len(HEADER) :]


def packed(text: bytes, rng: random.Random) -> bytes:
    """A header in front of weights that are sometimes damaged too; its size is sometimes a lie."""
    size, body = len(text), BODY
    if rng.random() < 0.1:
        size = rng.choice([0, 1, size - 1, size + 1, 2**16, 2**31, 2**63, 2**64 - 1])
    if rng.random() < 0.1:
        at = 4 * rng.randrange(len(body) // 4)
        value = rng.choice([b"\0\0\xc0\x7f", b"\0\0\x80\xff", rng.randbytes(4)])  # NaN, -infinity, anything
        body = rng.choice([b"", body[:-4], body + b"\0\0\0\0", body[::-1], body[:at] + value + body[at + 4 :]])
    return struct.pack("<Q", size % 2**64) + text + body


def padded(value: Any) -> bytes:
    """A header as its format writes it: in the order given, with spaces up to eight bytes."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return text.ljust(-(-len(text) // 8) * 8)


def read_cell(data: bytes) -> bytes:
    """Read strictly; what we take, the format's own reader takes, and finds the same in it."""
    arrays, theirs = weights_file.read(data, SPEC, where="a mutant"), load(data)
    assert {name: a.shape for name, a in arrays.items()} == {name: a.shape for name, a in theirs.items()}
    assert all(np.array_equal(arrays[name], theirs[name]) for name in arrays)
    return weights_file.write(arrays)


def in_files(pack_it: Callable[[Path, PackedLabel], object]) -> tuple[bytes, bytes]:
    """What is packed into a file and its manifest."""
    label = PackedLabel(name="least", version="1.0.0", license="Apache-2.0", description="the least")
    with tempfile.TemporaryDirectory() as folder:
        pack_it(path := Path(folder, "least.safetensors"), label)
        return path.read_bytes(), path.with_suffix(".json").read_bytes()


def the_least_maps(path: Path, label: PackedLabel) -> None:
    of = container().cells("noise", "low")
    pack(consensus(of), path, label, lock=of.lock)


MODEL, MODEL_MANIFEST = in_files(lambda path, label: pack(least(), path, label))
MAPS, MAPS_MANIFEST = in_files(the_least_maps)


def header_of(whole: bytes) -> bytes:
    return whole[8 : 8 + struct.unpack("<Q", whole[:8])[0]]


def document_of(whole: bytes) -> bytes:
    (words,) = json.loads(header_of(whole))["__metadata__"].values()
    return words.encode()


def as_file(whole: bytes) -> Callable[[bytes, random.Random], bytes]:
    """Documents in the header of a sealed file in the place of its own; sometimes something else is changed as well."""
    before = header_of(whole)
    start, rows = before[: before.index(b':"{') + 1], before[before.index(b'"},"') :].rstrip()

    def made(text: bytes, rng: random.Random) -> bytes:
        quoted = text.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
        header = start + b'"' + quoted + rows
        header = header.ljust(-(-(8 + len(header)) // 64) * 64 - 8)
        size, body = len(header), whole[8 + len(before) :]
        if rng.random() < 0.1:
            size = rng.choice([0, 1, size - 1, size + 1, 2**24, 2**31, 2**63, 2**64 - 1])
        if rng.random() < 0.1:
            header = text_mutant(header, rng)
        if rng.random() < 0.1:
            body = rng.choice([b"", body[:-4], body + b"\0\0\0\0", body[::-1]])
        return struct.pack("<Q", size % 2**64) + header + body

    return made


def as_sealed(value: Any) -> bytes:
    """A document with the right seal, whatever became of the rest."""
    if isinstance(value, dict) and "seal" in value:
        content = {key: inner for key, inner in value.items() if key != "seal"}
        value = {**content, "seal": canonical_json.sha256(dumped(content))}
    return dumped(value)


def read_packed(packed: ArtifactForm[Any]) -> Callable[[bytes], bytes]:
    """As :func:`read_cell`, of a file of a kind."""

    def read(data: bytes) -> bytes:
        opened, theirs = packed.open(data, where="a mutant"), load(data)
        arrays = {name: opened.array(name) for name in opened.layout}
        assert all(np.array_equal(arrays[name], theirs.pop(name)) for name in arrays)
        assert not theirs
        form = type(opened.document)
        said = {name: getattr(opened.document, name) for name in form.model_fields if name not in {"blocks", "seal"}}
        return b"".join(bytes(part) for part in file_format.write(form, said, arrays)[1])

    return read


def a_registry() -> MemoryStore:
    store = MemoryStore()
    publish(tiny(), store)
    publish(tiny(version="1.1.0", seed=1), store)
    publish(tiny("other", seed=2), store)
    attest(attestation(tiny()), store)
    return store


def read_lock(data: bytes) -> bytes:
    """The layout of a lock is free: its own bytes, where it says the same."""
    lock = Lock.from_bytes(data, where="a mutant")
    return data if json.loads(lock.to_bytes()) == json.loads(data) else lock.to_bytes()


def kinds() -> dict[str, Kind]:
    store = a_registry()
    index = store.read_index()
    assert index is not None
    snapshot = open_snapshot(store)
    lock = Lock.of([snapshot.find(reference) for reference in references("high/tiny", "high/other")])
    lock = dumped(lock.model_dump(mode="json"))
    with_model = Index.from_bytes(index, where="x").with_release("model/least", "1.0.0", model_release()).sealed()
    return {
        "model": Kind(document_of(MODEL), as_file(MODEL), as_sealed, read_packed(FORMS["model"])),
        "maps": Kind(document_of(MAPS), as_file(MAPS), as_sealed, read_packed(FORMS["maps"])),
        "maps manifest": Kind(
            MAPS_MANIFEST, plain, dumped, lambda data: MapsManifest.from_bytes(data, where="a mutant").to_bytes()
        ),
        "model manifest": Kind(
            MODEL_MANIFEST, plain, dumped, lambda data: ModelManifest.from_bytes(data, where="a mutant").to_bytes()
        ),
        "index of models": Kind(with_model, plain, resealed, lambda data: Index.from_bytes(data, where="a mutant").sealed()),
        "manifest": Kind(
            tiny().manifest.to_bytes(), plain, dumped, lambda data: Manifest.from_bytes(data, where="a mutant").to_bytes()
        ),
        "header": Kind(HEADER, packed, padded, read_cell),
        "index": Kind(index, plain, resealed, lambda data: Index.from_bytes(data, where="a mutant").sealed()),
        "lock": Kind(lock, plain, dumped, read_lock),
        "attestation": Kind(
            attestation(tiny()).to_bytes(),
            plain,
            dumped,
            lambda data: Attestation.from_bytes(data, where="a mutant").to_bytes(),
        ),
    }


def model_release() -> PackedRelease:
    return PackedRelease.of(ModelManifest.from_bytes(MODEL_MANIFEST, where="x"))


def references(*names: str) -> list[Any]:
    from registry.catalog.reference import Reference

    return [Reference.parse(name) for name in names]


KINDS = kinds()
WANTED = {
    "model": {"JSON", "SCHEMA", "SCHEMA_NEWER", "NOT_CANONICAL", "DUPLICATE_KEY", "NUMBER", "TOO_DEEP", "COMPOSITION", "SEAL"}
    | {"ST_HEADER", "ST_TAIL", "ST_NOT_CANONICAL", "NOT_A_MODEL", "BLOCK_DIGEST"},
    "maps": {"JSON", "SCHEMA", "NOT_CANONICAL", "DUPLICATE_KEY", "NUMBER", "TOO_DEEP", "SEAL"}
    | {"ST_HEADER", "ST_TAIL", "ST_NOT_CANONICAL", "NOT_MAPS", "BLOCK_DIGEST", "NOT_A_ROTATION"},
    "maps manifest": {"JSON", "SCHEMA", "SCHEMA_NEWER", "NOT_CANONICAL", "DUPLICATE_KEY", "NUMBER", "TOO_DEEP"},
    "model manifest": {"JSON", "SCHEMA", "SCHEMA_NEWER", "NOT_CANONICAL", "DUPLICATE_KEY", "NUMBER", "TOO_DEEP"},
    "index of models": {"JSON", "SCHEMA", "SCHEMA_NEWER", "NOT_CANONICAL", "NUMBER", "TOO_DEEP", "INDEX_DIGEST"},
    "manifest": {"JSON", "SCHEMA", "SCHEMA_NEWER", "NOT_CANONICAL", "DUPLICATE_KEY", "NUMBER", "TOO_DEEP"},
    "header": {"JSON", "DUPLICATE_KEY", "NUMBER", "TOO_DEEP", "ST_HEADER", "ST_NAME", "ST_ROW", "ST_DTYPE", "ST_EXTENT"}
    | {"ST_TENSORS", "ST_HOLE", "ST_TAIL", "ST_NOT_CANONICAL", "NON_FINITE"},
    "index": {"JSON", "SCHEMA", "SCHEMA_NEWER", "NOT_CANONICAL", "DUPLICATE_KEY", "NUMBER", "TOO_DEEP", "INDEX_DIGEST"},
    "lock": {"JSON", "SCHEMA", "SCHEMA_NEWER", "NOT_CANONICAL", "DUPLICATE_KEY", "NUMBER", "TOO_DEEP"},
    "attestation": {"JSON", "SCHEMA", "NOT_CANONICAL", "DUPLICATE_KEY", "NUMBER", "TOO_DEEP"},
}


def mutant(kind: Kind, rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return kind.file(text_mutant(kind.text, rng), rng)
    return kind.file(kind.seal(tree_mutant(kind.text, rng)), rng)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_mutants_are_refused_by_name_or_are_what_they_say(name):
    kind, codes, taken = KINDS[name], set(), 0
    before = memory(forget=True)
    for n in range(many(40_000, 2_000_000) // len(KINDS)):
        data = mutant(kind, random.Random(f"{SEED} {name} {n}"))
        started = time.process_time()
        try:
            assert kind.read(data) == data, "taken, and written in other bytes"
            taken += 1
        except BatteriesError as error:
            codes.add(error.code if str(error) else "an error without words")
        except BaseException as error:
            pytest.fail(f"seed {SEED}, {name} {n}: {error!r} of {data[:3000]!r}")
        spent = time.process_time() - started
        assert spent < SECONDS, f"seed {SEED}, {name} {n}: {spent:.1f} s for {data[:3000]!r}"
    assert memory() - before < MEMORY
    assert taken, "not one was well-formed: the mutants are too coarse"
    assert codes >= WANTED[name], f"never reached: {WANTED[name] - codes}"


def memory(*, forget: bool = False) -> int:
    """The most memory that this process held so far, or since it was forgotten; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    if forget:
        Path("/proc/self/clear_refs").write_text("5")
    peak = re.search(r"VmHWM:\s+(\d+)", status.read_text())
    return int(peak[1]) * 1024 if peak else 0


@pytest.mark.parametrize("name", KINDS)
def test_the_good_ones_are_good(name):
    kind = KINDS[name]
    whole = kind.file(kind.text, random.Random(0))
    assert kind.read(whole) == whole
    assert kind.seal(json.loads(kind.text)) == kind.text


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
    "header": 2**16,
    "attestation": 2**18,
    "index": 2**18,
    "lock": 2**18,
}  # those of the manifests and of the header are the limits


@pytest.mark.parametrize("filling", FILLINGS)
@pytest.mark.parametrize("name", KINDS)
def test_the_worst_that_fits_is_refused_at_once(name, filling):
    data = KINDS[name].file(FILLINGS[filling](SIZES[name]), random.Random(0))
    assert len(data) <= 2 * SIZES[name] + max(len(MODEL), len(MAPS))  # a document is quoted in its header
    started = time.process_time()
    with pytest.raises(BatteriesError, match=f"{DAMAGED}|ST_ROW|ST_HEADER"):
        KINDS[name].read(data)
    assert time.process_time() - started < SECONDS


def test_the_same_tensors_in_other_bytes_are_refused():
    rows = json.loads(HEADER)
    moved = dict(reversed(rows.items()))
    for text in (padded(moved), HEADER + b" " * 8, json.dumps(rows).encode()):
        with pytest.raises(FormatError) as caught:
            weights_file.read(struct.pack("<Q", len(text)) + text + BODY, SPEC, where="a file")
        assert caught.value.code == "ST_NOT_CANONICAL"
