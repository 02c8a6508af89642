"""Damage to texts, and changes of the fields of trees of JSON and TOML."""

import copy as copying
import random
import re
from collections.abc import Callable
from typing import Any

TOKENS = (
    *(b"NaN", b"-Infinity", b"1e999", b"-1e999", b"1e-999", b"-0", b"-0.0", b"1.0", b"0x10", b"01", b"1e3", b"9" * 30),
    *(b"9" * 401, b"9" * 5000, b"1." + b"3" * 500, b"true", b"null", b'"', b'""', b"\\", b"\\u0000", b"\\ud800", b"{", b"]"),
    *(b"[" * 40, b"[" * 3000, b"[]" * 2000, b'{"a":' * 50, b'{"a":1,"a":2}', b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b" ", b"\n"),
    *(b"\xed\xa0\x80", b"\xe2\x80\xae", "İ".encode(), b'"__metadata__":{},', b'"schema_version":"9.0",', b"//", b"/*", b","),
)
NUMBER = re.compile(rb"-?\d+(\.\d+)?([eE][+-]?\d+)?")
KEY = re.compile(rb'"[a-z_0-9.]+":("[^"]*"|[^,{}\[\]]+)')


def text_mutant(data: bytes, rng: random.Random, others: tuple[bytes, ...] = ()) -> bytes:
    """A damaged text; with other texts, its end is sometimes that of one of them."""
    if others and rng.random() < 0.1:
        data = splice(data, rng.choice(others), rng)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        data = rng.choice(DAMAGES)(data, rng)
    return data


def splice(data: bytes, other: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def flip(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes(byte ^ rng.randrange(1, 256) for byte in data[at : at + 1]) + data[at + 1 :]


def cut(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 2, 8, 40)) :]


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def repeat(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    end = start + rng.choice((1, 3, 20, 100))
    return data[:end] + data[start:end] * rng.choice((1, 1, 2, 30)) + data[end:]


def insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice((*TOKENS, rng.randbytes(4))) + data[at:]


def another_number(data: bytes, rng: random.Random) -> bytes:
    return replaced(NUMBER, data, rng, lambda found: rng.choice(TOKENS))


def twice(data: bytes, rng: random.Random) -> bytes:
    """A key and its value given once more: the same, or another one."""
    return replaced(KEY, data, rng, lambda found: found + b"," + rng.choice((found, found[:-1] + b"1")))


def replaced(what: re.Pattern[bytes], data: bytes, rng: random.Random, by: Callable[[bytes], bytes]) -> bytes:
    found = what.search(data, rng.randrange(len(data) + 1)) or what.search(data)
    return data if found is None else data[: found.start()] + by(found[0]) + data[found.end() :]


DAMAGES = (flip, flip, cut, truncate, repeat, insert, another_number, another_number, twice)

NESTED: Any = 0
for _ in range(30):
    NESTED = [NESTED]

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, -(10**400), 10**4000),
    *(0.0, -0.0, 0.5, 1e-320, 1e300, -1e300, float("nan"), float("inf"), 1.0, 4.000000001),
    *(
        "",
        " ",
        "0",
        "1.0",
        "2.0",
        "3.1",
        "9.0",
        "2.0.0",
        "x" * 2001,
        "x" * 9000,
        "\0",
        "a\0b",
        "\ud800",
        "\u202ea",
        "é",
        "\n",
        "nul",
        "F64",
    ),
    *(
        "../../etc/passwd",
        "/",
        "a" * 64,
        "0" * 64,
        "A" * 64,
        "os.system",
        "__import__('os')",
        "batteries.model.patch_svae.PatchSVAE",
    ),
    *([], {}, [[]], {"": {}}, {"a": 1}, [0] * 900, NESTED, ["x"] * 300, {str(n): n for n in range(300)}, [2**62, 2**62]),
)


def tree_mutant(tree: Any, rng: random.Random) -> Any:
    """A tree, which is its caller's, after some changes in it."""
    for _ in range(rng.choice((1, 1, 1, 1, 2, 4))):
        everywhere = list(places(tree))
        at_the_top = [place for place in everywhere if place[0] is tree]
        if everywhere:
            where = at_the_top if rng.random() < 0.2 else everywhere
            rng.choice(CHANGES)(*rng.choice(where), rng, everywhere)
    return tree


def places(tree: Any) -> Any:
    """Every container with every key of it."""
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from places(tree[key])


def put(tree: Any, key: Any, rng: random.Random, others: Any) -> None:
    tree[key] = unshared(rng.choice(VALUES))


def nudge(tree: Any, key: Any, rng: random.Random, others: Any) -> None:
    """A value of the same type, where there is an easy one."""
    value = tree[key]
    if isinstance(value, bool):
        tree[key] = not value
    elif isinstance(value, int | float) and abs(value) < 1e300:
        tree[key] = rng.choice((value + 1, -value, value * 2, value * 1e9, value / 3, int(value), float(value)))
    elif isinstance(value, str):
        tree[key] = rng.choice((value + "x", value[1:], value.upper(), value[::-1], value * 40))


def drop(tree: Any, key: Any, rng: random.Random, others: Any) -> None:
    del tree[key]


def rename(tree: Any, key: Any, rng: random.Random, others: Any) -> None:
    if isinstance(tree, dict):
        tree[rng.choice((f"{key}x", key[1:], "__class__", "__metadata__", "", "\0", "a" * 70, key.upper()))] = tree.pop(key)


def copy(tree: Any, key: Any, rng: random.Random, others: Any) -> None:
    """A value from elsewhere."""
    container, name = rng.choice(others)
    tree[key] = unshared(container[name])


def unshared(value: Any) -> Any:
    return copying.deepcopy(value) if isinstance(value, dict | list) else value


def again(tree: Any, key: Any, rng: random.Random, others: Any) -> None:
    if isinstance(tree, list):
        tree[key:key] = [tree[key]] * rng.choice((1, 2, 300))
    else:
        tree[f"{key}2"] = tree[key]


CHANGES = (put, put, put, nudge, nudge, drop, rename, copy, again)
