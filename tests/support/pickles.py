"""Checkpoints of hand-made pickles: small files that would cost a reader much more than their bytes."""

import io
import struct
import zipfile

PROTOCOL = b"\x80\x04"


def archive(program, storage=b""):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("x/data.pkl", program)
        file.writestr("x/byteorder", "little")
        file.writestr("x/data/0", storage)
    return data.getvalue()


def nested_tuples(n):
    return b"K\x01" + b"2\x86" * n  # twice what is there, as a pair


def nested_lists(n):
    """A list that has the one before twice, n times: written out, 2^n values."""
    one = b"]" + b"\x94" + b"K\x01a"
    for i in range(n):
        one += b"]\x94(" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"e"
    return one


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word


def table(*pairs):
    return b"}(" + b"".join(text(name) + value for name, value in pairs) + b"u"


def of_table(*pairs):
    return archive(PROTOCOL + table(*pairs) + b".")


def tensor(shape, stride, *, offset=0, kind=b"FloatStorage"):
    def numbers(values):
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"

    storage = b"(" + text(b"storage") + b"ctorch\n" + kind + b"\n" + text(b"0") + text(b"cpu") + b"K\x01tQ"
    start = b"\x8a\x08" + struct.pack("<q", offset)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + start + numbers(shape) + numbers(stride) + b"\x89}tR"


COUNT = struct.pack("<Q", 3 * 10**9)
ATTACKS = {
    "a byte array of 3 GB": archive(PROTOCOL + b"\x96" + COUNT + b"abc."),
    "bytes of 3 GB": archive(PROTOCOL + b"\x8e" + COUNT + b"abc."),
    "a frame of 3 GB": archive(PROTOCOL + b"\x95" + COUNT + b"N."),
    "a number of 2 GB": archive(PROTOCOL + b"\x8b" + struct.pack("<I", 2**31 - 1) + b"abc."),
    "tuples as a key": archive(PROTOCOL + b"}" + nested_tuples(60) + b"Ns."),
    "tuples in a set": archive(PROTOCOL + b"\x8f(" + nested_tuples(60) + b"\x90."),
    "tuples of the memo": archive(PROTOCOL + b"}K\x01" + b"".join(b"\x94h" + bytes([i]) + b"\x86" for i in range(60)) + b"Ns."),
    "tuples of a mark": archive(PROTOCOL + b"}K\x01" + b"\x85" * 60 + b"Ns."),
    "tuples as a codec": archive(PROTOCOL + b"c_codecs\nencode\n" + text(b"a") + nested_tuples(40) + b"\x86R."),
    "tuples as a weight": of_table((b"enc_in.weight", nested_tuples(60))),
    "lists in a config": of_table((b"config", table((b"heads", nested_lists(60))))),
    "a list in itself": archive(PROTOCOL + b"]\x94h\x00a."),
    "wide tuples as a key": archive(
        PROTOCOL + b"}K\x01" + b"".join(b"\x94(" + (b"h" + bytes([i])) * 30 + b"t" for i in range(8)) + b"Ns."
    ),
    "one tuple as many keys": archive(PROTOCOL + b"(" + b"K\x01" * 5000 + b"t\x94}(" + b"h\x00N" * 50_000 + b"u."),
    "copies of a table": archive(
        PROTOCOL
        + b"}\x94("
        + b"".join(text(b"%05d" % i) + b"N" for i in range(60_000))
        + b"u](ccollections\nOrderedDict\n\x94"
        + b"h\x01h\x00\x85R" * 1500
        + b"e."
    ),
    "numbers whose hashes collide": archive(
        PROTOCOL
        + b"}("
        + b"".join(b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") + b"N" for i in range(60_000))
        + b"u."
    ),
    "a number that cannot be written": of_table(
        (b"config", table((b"V", b"\x8b" + struct.pack("<I", 5001) + (1 << 40_000).to_bytes(5001, "little"))))
    ),
    "axes": archive(PROTOCOL + table((b"enc_in.weight", tensor((1,) * 5000, (0,) * 5000))) + b".", b"\0" * 4),
    "opcodes": archive(PROTOCOL + b"N0" * 2_000_000 + b"N."),
    "empty lists": archive(PROTOCOL + b"](" + b"]" * 4_000_000 + b"e."),
    "marks": archive(PROTOCOL + b"(" * 4_000_000 + b"."),
    "deep lists": archive(PROTOCOL + b"]" * 10**6 + b"a" * (10**6 - 1) + b"."),
    "a shape beyond its bytes": archive(PROTOCOL + table((b"enc_in.weight", tensor((2**40,), (1,)))) + b".", b"\0" * 4),
    "a negative step": archive(PROTOCOL + table((b"enc_in.weight", tensor((1,), (-1,)))) + b".", b"\0" * 4),
    "quantised numbers": archive(
        PROTOCOL + table((b"enc_in.weight", tensor((1,), (1,), kind=b"QUInt8Storage"))) + b".", b"\0" * 4
    ),
}
