"""Readers of files with tensors: a cell's weights, and every kind of artifact."""

import json
import random
import struct
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load

from batteries.cell import weights_file
from composer import pack
from composer.artifact import PackedLabel
from composer.artifact.form import ArtifactForm
from composer.artifact.kinds import FORMS
from composer.sealed import file_format
from tests.support import vaes
from tests.support.cells import SPEC, tiny
from tests.support.maps import consensus, container
from tests.support.models import least
from tests.support.mutations import text_mutant
from tests.support.readers.reader import Reader, padded, resealed

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


def the_least_vae(path: Path, label: PackedLabel) -> None:
    pack(vaes.vae(bottleneck=2, arrays=1), path, label)


PACKED = {
    "model": in_files(lambda path, label: pack(least(), path, label)),
    "maps": in_files(the_least_maps),
    "vae": in_files(the_least_vae),
}
FILES = {name: file for name, (file, _) in PACKED.items()}
MANIFESTS = {name: manifest for name, (_, manifest) in PACKED.items()}


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


def artifact(kind: str) -> Reader:
    whole = FILES[kind]
    return Reader(document_of(whole), as_file(whole), resealed("seal"), read_packed(FORMS[kind]))


SEALED: dict[str, Callable[[], Reader]] = {
    **{kind: partial(artifact, kind) for kind in FILES},
    "weights of a cell": lambda: Reader(HEADER, packed, padded, read_cell),
}
