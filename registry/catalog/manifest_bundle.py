"""Bundles: many manifests in one file, fetched with one request. Each is compared with its pin before use.

A bundle has one line of canonical JSON per manifest, sorted by key: ``{"key":"low/x/1.0.0.json","manifest":{...}}``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from registry.catalog import store_keys

BUNDLE = "manifests.jsonl"
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
    r"""Return the manifests in a bundle, by key; malformed lines are skipped.

    >>> unpack(b'{"key":"low/x/1.0.0.json","manifest":{"a":1}}\nnonsense\n')
    {'low/x/1.0.0.json': b'{"a":1}\n'}
    """
    found = (_LINE.fullmatch(line) for line in data.splitlines(keepends=True))
    held = {match[1].decode(): match[2] + b"\n" for match in found if match}
    return {key: manifest for key, manifest in held.items() if store_keys.is_key(key)}


def size(sizes: Mapping[str, int]) -> int:
    """Return the largest size in bytes of a bundle of manifests, from their sizes by key."""
    return sum(_AROUND + len(key) + size for key, size in sizes.items())
