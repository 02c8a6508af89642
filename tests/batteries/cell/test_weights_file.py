"""The strict reader of cell files: every rule of the header has a file that breaks it."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from batteries.cell import weights_file
from batteries.errors import BatteriesError, FormatError, PolicyError
from batteries.network.limits import Limits
from tests.support.cells import SPEC, tiny

GOOD = tiny().to_bytes()


def parts(data=GOOD):
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def build(header, body):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def read(data):
    return weights_file.read(data, SPEC, where="a file")


def test_what_is_written_is_read_here_and_by_safetensors():
    ours, theirs = read(GOOD), load(GOOD)
    assert ours.keys() == theirs.keys() == SPEC.tensor_shapes().keys()
    assert all((ours[name] == theirs[name]).all() for name in ours)
    assert weights_file.write(ours) == GOOD
    assert not next(iter(ours.values())).flags.writeable


def edit(change):
    header, body = parts()
    change(header)
    return build(header, body)


def renamed(header):
    header["ENC.in"] = header.pop("enc_in.bias")


def shifted(header):
    row = header["dec_out.weight"]
    row["data_offsets"] = [offset + 4 for offset in row["data_offsets"]]


BROKEN = {
    "too short": (GOOD[:5], "ST_SHORT"),
    "a header that claims too much": (struct.pack("<Q", 2**40) + GOOD[8:], "ST_HEADER"),
    "a header past the end": (struct.pack("<Q", len(GOOD)) + GOOD[8:], "ST_HEADER"),
    "not JSON": (build(b"{]", b""), "JSON"),
    "not UTF-8": (build(b'{"\xff": 1}', b""), "JSON"),
    "a list": (build(b"[]", b""), "ST_HEADER"),
    "no tensors": (build({}, b""), "ST_HEADER"),
    "too many tensors": (build({f"t{i}": {} for i in range(300)}, b""), "ST_HEADER"),
    "a tail": (GOOD + b"\0\0\0\0", "ST_TAIL"),
    "cut short": (GOOD[:-4], "ST_TAIL"),
    "metadata": (edit(lambda h: h.update(__metadata__={"a": "b"})), "ST_NAME"),
    "a name with capitals": (edit(renamed), "ST_NAME"),
    "another dtype": (edit(lambda h: h["enc_in.bias"].update(dtype="F64")), "ST_DTYPE"),
    "an extra field": (edit(lambda h: h["enc_in.bias"].update(layout="strided")), "ST_ROW"),
    "a negative side": (edit(lambda h: h["enc_in.bias"].update(shape=[-2])), "ST_ROW"),
    "a boolean side": (edit(lambda h: h["enc_in.bias"].update(shape=[True])), "ST_ROW"),
    "another extent": (edit(lambda h: h["enc_in.bias"].update(shape=[3])), "ST_EXTENT"),
    "an overflowing shape": (edit(lambda h: h["enc_in.bias"].update(shape=[2**62, 2**62])), "ST_EXTENT"),
    "a hole": (edit(shifted), "ST_HOLE"),
    "deep nesting": (build(b"[" * 5000 + b"]" * 5000, b""), "TOO_DEEP"),
    "a huge integer": (build(b'{"a": ' + b"9" * 5000 + b"}", b""), "NUMBER"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named(kind):
    data, code = BROKEN[kind]
    with pytest.raises(FormatError) as caught:
        read(data)
    assert caught.value.code == code
    assert caught.value.exit_code == 4


def test_a_tensor_given_twice():
    header, body = parts()
    text = json.dumps(header)
    twice = text[:-1] + ', "enc_in.bias": ' + json.dumps(header["enc_in.bias"]) + "}"
    with pytest.raises(FormatError, match=r"duplicate key in .*: got enc_in\.bias"):
        read(build(twice.encode(), body))


def test_all_misfits_are_listed_at_once():
    arrays = dict(read(GOOD))
    arrays["stray"] = np.zeros(3, np.float32)
    del arrays["enc_in.bias"]
    arrays["dec_in.bias"] = np.zeros(7, np.float32)
    with pytest.raises(FormatError) as caught:
        read(weights_file.write(arrays))
    for words in ("enc_in.bias is missing", "stray is unexpected", "dec_in.bias is [7] instead of [2]"):
        assert words in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value):
    arrays = {name: np.array(array) for name, array in read(GOOD).items()}
    arrays["enc_in.bias"][1] = value
    with pytest.raises(PolicyError, match=r"enc_in.bias \(1\)") as caught:
        weights_file.write(arrays)
    assert caught.value.exit_code == 6
    data = bytearray(GOOD)
    header, body = parts()
    start = len(GOOD) - len(body) + header["enc_in.bias"]["data_offsets"][0]
    data[start : start + 4] = np.float32(value).tobytes()
    with pytest.raises(PolicyError, match="non-finite"):
        read(bytes(data))


def test_the_tensor_digest_sees_names_shapes_and_values_and_not_the_order():
    arrays = dict(read(GOOD))
    digest = weights_file.tensor_digest(arrays)
    assert weights_file.tensor_digest(dict(reversed(arrays.items()))) == digest
    for change in ({"enc_in.bias": arrays["enc_in.bias"] + 1}, {"extra": np.zeros(1, np.float32)}):
        assert weights_file.tensor_digest({**arrays, **change}) != digest
    flat = {**arrays, "enc_in.weight": arrays["enc_in.weight"].reshape(1, -1)}
    assert weights_file.tensor_digest(flat) != digest


@settings(max_examples=300, deadline=1000)
@given(st.data())
def test_mutations_end_in_our_errors_or_in_arrays_of_the_spec(data):
    mutated = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "zero"]))
        at = data.draw(st.integers(0, max(0, len(mutated) - 1)))
        if kind == "flip" and mutated:
            mutated[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del mutated[at : at + data.draw(st.integers(1, 40))]
        elif kind == "insert":
            mutated[at:at] = data.draw(st.binary(min_size=1, max_size=8))
        else:
            mutated[at : at + 8] = bytes(len(mutated[at : at + 8]))
    try:
        found = read(bytes(mutated))
    except BatteriesError:
        return
    assert {name: array.shape for name, array in found.items()} == SPEC.tensor_shapes()
    assert {name: array.shape for name, array in load(bytes(mutated)).items()} == SPEC.tensor_shapes()


def test_the_largest_cell_comes_within_the_usual_time():
    assert Limits().patience(weights_file.MAX_CELL) == Limits().deadline
