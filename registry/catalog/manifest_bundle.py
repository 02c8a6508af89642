"""Bundles: many manifests in one file, fetched with one request. Each is compared with its pin before use.

A bundle has one line of canonical JSON per manifest, sorted by key: ``{"key":"low/x/1.0.0.json","manifest":{...}}``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from registry.catalog import store_keys

BUNDLE = "manifests.jsonl"
MAX_BUNDLE = 64 * 2**20  # bytes: ten thousand manifests; a larger registry is read without a bundle
MAX_LINES = 2**18
_LINE = re.compile(rb'\{"key":"([a-z0-9/._+-]{1,200})","manifest":(\{[^\n]*\})\}\n')
_AROUND = len('{"key":"","manifest":}')  # length of a line without its key and its manifest


def pack(manifests: Mapping[str, bytes]) -> bytes:
    r"""Return the bundle of manifests given by key.

    >>> pack({"low/x/1.0.0.json": b'{"a":1}\n'})
    b'{"key":"low/x/1.0.0.json","manifest":{"a":1}}\n'
    """
    return b"".join(
        b'{"key":"%b","manifest":%b}\n' % (key.encode(), data.removesuffix(b"\n")) for key, data in sorted(manifests.items())
    )


def unpack(data: bytes) -> dict[str, bytes]:
    r"""Return the manifests in a bundle, by key; malformed lines are skipped, and so is all after ``MAX_LINES``.

    >>> unpack(b'{"key":"low/x/1.0.0.json","manifest":{"a":1}}\nnonsense\n')
    {'low/x/1.0.0.json': b'{"a":1}\n'}
    """
    held: dict[str, bytes] = {}
    start = 0
    for _ in range(MAX_LINES):
        end = data.find(b"\n", start) + 1
        if not end:
            break
        if match := _LINE.fullmatch(data, start, end):
            held[match[1].decode()] = match[2] + b"\n"
        start = end
    return {key: manifest for key, manifest in held.items() if store_keys.is_key(key)}


def size(sizes: Mapping[str, int]) -> int:
    """Return the largest size in bytes of a bundle of manifests, from their sizes by key."""
    return sum(_AROUND + len(key) + size for key, size in sizes.items())
