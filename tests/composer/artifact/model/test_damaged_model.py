"""A model's file that is not what was saved: every changed byte, document and header is refused."""

import json
import random
import re

import numpy as np
import pytest
import torch

from batteries.errors import (
    FormatError,
    InputError,
    IntegrityError,
    PolicyError,
)
from batteries.io import canonical_json
from composer import grids, load, read, save
from composer.artifact.kinds import FORMS
from composer.artifact.model.document import router_shapes
from composer.sealed import block_digests
from composer.sealed import reader as opening
from composer.wiring.route import Router
from tests.support.models import (
    document,
    forgeries,
    framed,
    model,
    sealed,
    with_document,
)


def opened(data):
    return FORMS["model"].open(data, where="test")


def flipped(data, place, bit):
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


def refused(data):
    """The code of the error that a file gives: one about bytes, whatever it is."""
    with pytest.raises((FormatError, IntegrityError)) as caught:
        opened(data)
    return caught.value.code


@pytest.mark.slow
def test_every_changed_byte_of_a_header_is_found(little):
    end = 8 + int.from_bytes(little[:8], "little")
    codes = set()
    for place in range(end):
        for bit in (place % 8, 7 - place % 8 if place % 8 != 3 else 5):
            data = bytearray(little)
            data[place] ^= 1 << bit
            codes.add(refused(bytes(data)))
    assert {"SEAL", "ST_NOT_CANONICAL", "ST_HEADER", "JSON", "SCHEMA", "NOT_A_MODEL"} <= codes


@pytest.mark.slow
def test_every_changed_byte_of_the_data_is_found(path, little):
    end, whole = 8 + int.from_bytes(little[:8], "little"), path.read_bytes()
    for place in range(end, len(little)):
        assert refused(flipped(little, place, place % 8)) == "BLOCK_DIGEST"
    draw = random.Random(0)
    for _ in range(2000):
        refused(flipped(whole, draw.randrange(len(whole)), draw.randrange(8)))


def test_a_file_that_is_shorter_or_longer_is_found(path, little):
    for size in range(len(little)):
        refused(little[:size])
    for more in (b"\0", b" " * 64, little):
        assert refused(little + more) == "ST_TAIL"
    whole, draw = path.read_bytes(), random.Random(1)
    for _ in range(100):
        refused(whole[: draw.randrange(len(whole))])


def test_data_moved_about_is_found(path):
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    draw = random.Random(2)
    for _ in range(50):
        a, b = sorted(draw.sample(range(start, len(whole)), 2))
        moved = whole[:start] + whole[b:] + whole[a:b] + whole[start:a]
        if moved != whole:
            assert refused(moved) == "BLOCK_DIGEST"


@pytest.mark.slow
def test_every_block_is_looked_at(monkeypatch, tmp_path):
    monkeypatch.setattr(block_digests, "BLOCK", 1024)
    monkeypatch.setattr(opening, "BLOCK", 1024)
    monkeypatch.setattr(block_digests, "WINDOW", 256)
    save(model(), tmp_path / "many.safetensors")
    data = (tmp_path / "many.safetensors").read_bytes()
    found = opened(data)
    assert len(found.document.blocks) == -(-len(found.data) // 1024) > 20
    start = len(data) - len(found.data)
    for block in range(len(found.document.blocks)):
        with pytest.raises(IntegrityError, match=f"in block {block}[ ;]"):
            opened(flipped(data, start + 1024 * block, 0))
    damaged = bytearray(data)
    damaged[start + 1500] ^= 1
    damaged[-1] ^= 1
    with pytest.raises(IntegrityError, match="in block 1 and 1 others"):
        opened(bytes(damaged))


def changed(path, value):
    """A change of one field of a document; the path is of keys and places."""

    def change(document):
        *within, last = path
        for key in within:
            document = document[key]
        document[last] = value(document[last]) if callable(value) else value

    return change


HOSTILE = {
    "a cell less": (lambda d: d["cells"].pop(), "SCHEMA"),
    "a cell twice": (lambda d: d["cells"].append(d["cells"][0]), "SCHEMA"),
    "a cell in a group that is not there": (changed(("cells", 0, "group"), 9), "SCHEMA"),
    "a group without a cell": (lambda d: d["groups"].append(d["groups"][0]), "SCHEMA"),
    "another spec": (changed(("groups", 0, "hidden"), 9), "ST_NOT_CANONICAL"),
    "a spec beyond all memory": (
        lambda d: d["groups"][0].update(V=4096, hidden=8192, depth=64),
        "MODEL_TOO_LARGE",
    ),
    "a spec that cannot be": (changed(("groups", 0, "heads"), 3), "SCHEMA"),
    "a relay less": (lambda d: d["relays"].popitem(), "SCHEMA"),
    "a relay of another width": (changed(("relays", "swap", "width"), 5), "SCHEMA"),
    "a map that neither turns nor reflects": (changed(("relays", "swap", "determinant"), 0), "SCHEMA"),
    "a scale that is no number": (changed(("relays", "swap", "scale"), "1"), "SCHEMA"),
    "a router less": (lambda d: d["routers"].clear(), "SCHEMA"),
    "a router of another shape": (changed(("routers", "by.router", "layers.0.weight", 0), 33), "SCHEMA"),
    "a router of no size": (changed(("routers", "by.router", "layers.0.weight", 0), 0), "SCHEMA"),
    "a name that leaves its place": (
        lambda d: d["routers"]["by.router"].update({"../x": [1]}),
        "SCHEMA",
    ),
    "a frame for fewer cells": (lambda d: d["frame"]["maps"].pop(), "SCHEMA"),
    "a frame of rows that no map was fitted on": (changed(("frame", "rows"), 36), "SCHEMA"),
    "a map fitted on other rows": (changed(("frame", "maps", 1, "paired"), 31), "SCHEMA"),
    "a frame of parts of an image": (changed(("frame", "grid"), [5, 5]), "SCHEMA"),
    "a frame on no grid": (changed(("frame", "grid"), [4]), "SCHEMA"),
    "a frame of no images": (changed(("frame", "probe"), ""), "SCHEMA"),
    "no frame": (changed(("frame",), None), "ST_NOT_CANONICAL"),
    "a block less": (lambda d: d["blocks"].pop(), "ST_TAIL"),
    "a block more": (lambda d: d["blocks"].append("0" * 64), "ST_TAIL"),
    "a digest of another form": (changed(("blocks", 0), "A" * 64), "SCHEMA"),
    "a circle": (changed(("composition", "nodes", "all", "of"), ["all", "wide"]), "COMPOSITION"),
    "an unknown node": (changed(("composition", "output"), "none"), "COMPOSITION"),
    "a newer schema": (changed(("schema_version",), "2.0"), "SCHEMA_NEWER"),
    "a field more": (lambda d: d.update(more=1), "SCHEMA"),
    "another lock": (changed(("cells", 0, "sha256"), "0" * 63), "SCHEMA"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_document_that_cannot_be_is_refused_however_well_it_is_sealed(path, name):
    change, code = HOSTILE[name]
    value = document(path.read_bytes())
    change(value)
    assert refused(with_document(path.read_bytes(), sealed(value))) == code


def test_a_document_that_was_not_sealed_is_refused(path):
    value = document(path.read_bytes())
    value["cells"][0]["version"] = "1.0.1"
    assert refused(with_document(path.read_bytes(), canonical_json.dump(value).decode())) == "SEAL"


def header_of(little, change):
    """A file whose header was changed as text."""
    size = int.from_bytes(little[:8], "little")
    return framed(change(little[8 : 8 + size].rstrip()), little[8 + size :])


HEADERS = {
    "white space": lambda text: text.replace(b'"dtype":', b'"dtype": ', 1),
    "another order": lambda text: text.replace(b'"dtype":"F32","shape"', b'"shape"', 1),
    "a tensor twice": lambda text: text[:-1] + b',"groups.0.enc_in.bias":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}',
    "a tensor more": lambda text: text[:-1] + b',"more":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}',
    "another name": lambda text: text.replace(b"groups.0.enc_in.bias", b"groups.0.enc_in.bios"),
    "another type": lambda text: text.replace(b'"F32"', b'"BF16"', 1),
    "an overlap": lambda text: re.sub(rb'"data_offsets":\[[1-9][0-9]*,', b'"data_offsets":[0,', text, count=1),
    "an offset beyond all": lambda text: text.replace(b'"data_offsets":[0,', b'"data_offsets":[18446744073709551615,'),
    "another key of metadata": lambda text: text.replace(b"batteries.model", b"batteries.other"),
    "a second key of metadata": lambda text: text.replace(b'"},"', b'","a":"b"},"', 1),
    "no document": lambda text: b'{"__metadata__":{"svae-batteries.model":{}}}',
    "a lone surrogate": lambda text: b'{"__metadata__":{"svae-batteries.model":"\\ud800"}}',
    "not UTF-8": lambda text: b'{"__metadata__":{"svae-batteries.model":"\xff"}}',
    "an open text": lambda text: b'{"__metadata__":{"svae-batteries.model":"',
    "brackets in brackets": lambda text: b'{"__metadata__":{"svae-batteries.model":' + b"[" * 100_000,
    "a long number": lambda text: b'{"__metadata__":{"svae-batteries.model":' + b"9" * 100_000,
    "nothing": lambda text: b"",
    "no JSON": lambda text: b"\x80\x04\x95 pickle",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_no_writer_makes_is_refused(little, name):
    assert header_of(little, lambda text: text) == little
    assert header_of(little, HEADERS[name]) != little
    refused(header_of(little, HEADERS[name]))


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 17 * 2**20, 2**32])
def test_a_header_beyond_the_file_or_the_limit_is_not_read(little, size):
    assert refused(size.to_bytes(8, "little") + little[8:]) == "ST_HEADER"


def test_a_header_at_the_limit_is_one_error_soon(little):
    words = json.dumps("x" * (16 * 2**20 - 4096)).encode()
    assert refused(framed(b'{"__metadata__":{"svae-batteries.model":' + words + b"}}", b"")) == "JSON"


def test_numbers_that_are_none_are_refused_even_where_they_were_sealed(path, tmp_path):
    data = path.read_bytes()
    found = opened(data)
    start = len(data) - len(found.data)
    for name, dtype, number in (
        ("groups.0.enc_in.weight", "<f4", np.nan),
        ("groups.2.dec_out.bias", "<f4", np.inf),
        ("frame.rotation", "<f8", -np.inf),
    ):
        body = bytearray(found.data)
        row = found.layout[name]
        size = np.dtype(dtype).itemsize
        body[row.end - size : row.end] = np.array([number], dtype).tobytes()
        value = document(data)
        value["blocks"] = list(block_digests.digests([memoryview(bytes(body))]))
        with pytest.raises(PolicyError) as caught:
            opened(with_document(data[:start] + body, sealed(value)))
        assert (caught.value.code, caught.value.found) == ("NON_FINITE", name)
    assert start > 0


def swap_digests(cells):
    cells[0]["tensors"], cells[2]["tensors"] = cells[2]["tensors"], cells[0]["tensors"]


def swap_places(cells):
    cells[0], cells[2] = cells[2], cells[0]


@pytest.mark.parametrize("change", [swap_digests, swap_places])
def test_a_lock_that_does_not_fit_is_refused_by_every_reader(path, tmp_path, change):
    value = document(path.read_bytes())
    assert value["cells"][0]["group"] == value["cells"][2]["group"]
    change(value["cells"])
    data = with_document(path.read_bytes(), sealed(value))
    (tmp_path / "lock.safetensors").write_bytes(data)
    for look in (lambda: load(tmp_path / "lock.safetensors"), lambda: opened(data)):
        with pytest.raises(IntegrityError, match="TENSOR_DIGEST") as caught:
            look()
        assert sorted(caught.value.found.split(", ")) == ["noise", "photo"]


def test_another_model_than_was_promised_is_refused(path):
    seal = read(path).seal
    load(path, seal=seal)
    with pytest.raises(IntegrityError, match="OTHER_SEAL"):
        load(path, seal="0" * 64)


FORGED = {
    "a frame narrower than its cells": "SCHEMA",
    "a relay of another width": "SCHEMA",
    "a router of another shape": "SCHEMA",
    "a router of other names": "SCHEMA",
    "a relay between unequal cells": "WIRING",
}


def test_what_cannot_be_put_together_is_refused_by_whoever_reads_it(path, tmp_path):
    """Sealed well, by somebody whose maps and routers are not ours; no weight has to be looked at."""
    found = forgeries(path.read_bytes())
    assert found.keys() == FORGED.keys()
    for name, data in found.items():
        (tmp_path / "x.safetensors").write_bytes(data)
        for opener in (load, read):
            with pytest.raises(FormatError) as caught:
                opener(tmp_path / "x.safetensors")
            assert caught.value.code == FORGED[name], name


def test_the_shapes_of_a_router_are_those_of_the_module():
    for branches, channels in ((2, 1), (3, 3), (7, 4)):
        state = Router(branches, channels).state_dict()
        assert {name: tuple(tensor.shape) for name, tensor in state.items()} == router_shapes(branches, channels)


def test_tokens_are_never_cut_to_a_frame():
    wide = torch.ones(1, 2, 4)
    assert torch.equal(grids.pad(wide, 4), wide)
    assert grids.pad(wide, 6).sum() == wide.sum()
    with pytest.raises(InputError) as caught:
        grids.pad(wide, 2)
    assert (caught.value.code, caught.value.found) == ("WIDTH", 4)
