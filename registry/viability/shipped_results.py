"""Results of untrained cells that ship with the package, so that a test of a shipped cell's spec need not compute them.

They depend on spec, protocol, probe and seeds, and on no trained weight. ``python examples/nulls.py`` computes the file again,
and ``batteries validate --fresh`` ignores it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import JsonValue

from batteries import __version__
from batteries.errors import IntegrityError
from batteries.io import atomic_files, canonical_json
from batteries.io.canonical_json import AnyDocument, Document, load_document

PATH = Path(__file__).with_name("shipped_results.json")
MAX_FILE = 2**22


class ShippedResults(Document):
    """Results by the digest of what they depend on.

    Attributes:
        schema_version: Version of this document's form.
        package: Version of the package that computed them; no other version uses them.
        torch: Version of torch that computed them.
        results: Documents by :func:`address`.
        sha256: Digest of ``results`` as canonical JSON.
    """

    schema_version: Literal["1.0"] = "1.0"
    package: str
    torch: str
    results: dict[str, JsonValue]
    sha256: str

    @classmethod
    def of(cls, results: Mapping[str, JsonValue], torch: str) -> ShippedResults:
        """Return the document of results that this version of the package computed."""
        return cls(package=__version__, torch=torch, results=dict(results), sha256=digest_of(results))


def digest_of(results: Mapping[str, JsonValue]) -> str:
    """Return the digest of results as canonical JSON."""
    return canonical_json.sha256(canonical_json.dump(dict(results)))


def address(kind: type[Document], key: Mapping[str, Any]) -> str:
    """Return the digest of a result's kind and of all that it depends on."""
    return canonical_json.sha256(canonical_json.dump({**key, "kind": kind.__name__}))


def find(kind: type[AnyDocument], key: Mapping[str, Any]) -> AnyDocument | None:
    """Return the shipped result under a key; None if there is none.

    Raises:
        IntegrityError: the shipped file was changed (``DIGEST_MISMATCH``).
    """
    value = shipped().get(address(kind, key))
    return None if value is None else load_document(kind, canonical_json.dump(value), where=PATH, limit=MAX_FILE)


@cache
def shipped() -> dict[str, JsonValue]:
    """Return all shipped results by their address; none if another version of the package computed them."""
    if not PATH.exists():
        return {}
    found = load_document(ShippedResults, atomic_files.read(PATH, limit=MAX_FILE), where=PATH, limit=MAX_FILE)
    digest = digest_of(found.results)
    if digest != found.sha256:
        remedy = "Install svae-batteries again."
        raise IntegrityError(
            "digest mismatch", code="DIGEST_MISMATCH", expected=found.sha256, found=digest, where=PATH, remedy=remedy
        )
    return found.results if found.package == __version__ else {}
