"""Signatures of indexes: a TUF document whose only target is ``index.json``, and whose version is the index's number."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from batteries.errors import IntegrityError
from registry.catalog import store_keys
from registry.catalog.release import Pin
from registry.trust import signed_documents
from registry.trust.roots import Chain
from registry.trust.signature import Signature
from registry.trust.signed_documents import time_text

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner
    from tuf.api.metadata import Metadata, Targets

TARGET = "index.json"


def sign_index(index: Pin, number: int, root: int, signers: Iterable[CryptoSigner], expires: datetime) -> bytes:
    """Sign an index.

    Args:
        index: Pin of the index's bytes.
        number: Number of the index.
        root: Number of the document of keys in force.
        signers: Signers.
        expires: Time after which the signature is not valid.
    """
    from tuf.api.metadata import Metadata, TargetFile, Targets

    custom = {"custom": {"issued": time_text(signed_documents.now()), "root": root}}
    target = TargetFile(index.size, {"sha256": index.sha256}, TARGET, custom)
    return signed_documents.write(Metadata(Targets(version=number, expires=expires, targets={TARGET: target})), signers)


def check_index(index: Pin, number: int, signature: bytes, chain: Chain, where: str) -> Signature:
    """Check the signature of an index by the keys of its registry.

    Args:
        index: Pin of the index's bytes.
        number: Number of the index.
        signature: Bytes of the signature.
        chain: Documents of the registry's keys.
        where: Address of the registry.

    Raises:
        FormatError: invalid document (``SIGNATURE_FORMAT``).
        IntegrityError: signature of another index, or one that its keys did not make (``BAD_SIGNATURE``), by other keys
            (``WRONG_SIGNER``), by keys that were revoked (``KEY_REVOKED``), by fewer keys than must sign (``TOO_FEW_SIGNERS``),
            or under a document of keys that is not there (``MISSING_ROOT``).
    """
    place = f"{store_keys.signature(index.sha256)} of {where}"
    found: Metadata[Targets] = signed_documents.read(signature, "targets", where=place)
    issued, root = _facts(found.signed, index, number, place)
    if root > chain.number:
        key = store_keys.root(chain.number + 1)
        raise IntegrityError("missing document of keys", code="MISSING_ROOT", expected=key, where=place)
    signers = _valid(found, chain)
    if len(signers) < chain.latest.roles["targets"].threshold:
        raise _refused(found, chain, signers, place)
    return Signature(state="signed", signers=tuple(sorted(signers)), issued=issued, expires=time_text(found.signed.expires))


def _facts(signed: Targets, index: Pin, number: int, where: str) -> tuple[str, int]:
    """Return when an index was signed, and under which document of keys; raise if another index was."""
    target = signed.targets.get(TARGET)
    custom: Any = None if target is None else target.custom
    if target is None or len(signed.targets) != 1 or not isinstance(custom, dict):
        raise _bad(where, expected=f"a signature of {TARGET}", found=", ".join(map(str, signed.targets))[:200] or "nothing")
    found = (target.length, target.hashes, signed.version)
    if found != (index.size, {"sha256": index.sha256}, number):
        raise _bad(where, expected=f"index {number} with sha256 {index.sha256}", found=f"another, index {signed.version}")
    issued, root = custom.get("issued"), custom.get("root")
    if not (isinstance(issued, str) and signed_documents.is_time(issued) and type(root) is int):
        raise _bad(where, expected="a time and a number of the document of keys", found="none")
    return issued, root


def _valid(found: Metadata[Targets], chain: Chain) -> set[str]:
    return set(chain.latest.get_verification_result("targets", found.signed_bytes, found.signatures).signed)


def _refused(found: Metadata[Targets], chain: Chain, signers: set[str], where: str) -> IntegrityError:
    """Return the error for a signature by too few of the keys in force, by its cause."""
    said = set(found.signatures)
    false = sorted(said & (set(chain.keys) - signers))
    expected = f"{chain.latest.roles['targets'].threshold} of {', '.join(chain.keys)}"
    listed = ", ".join(sorted(said)[:5]) or "none"
    if false:
        return _bad(where, expected=expected, found=f"a signature that key {false[0]} did not make")
    if signers:
        return IntegrityError("too few signers", code="TOO_FEW_SIGNERS", expected=expected, found=listed, where=where)
    if said & chain.revoked:
        remedy = "The registry left that key out: ask its holder for an index signed by a key in force."
        return IntegrityError(
            "signed by a revoked key", code="KEY_REVOKED", expected=expected, found=listed, where=where, remedy=remedy
        )
    return wrong_signer(expected=expected, found=listed, where=where)


def wrong_signer(*, expected: str, found: str, where: object) -> IntegrityError:
    """Return the error for a signature by keys that are not trusted."""
    remedy = "Do not use this registry until its holder has explained it. A new key is pinned in the table [trusted]."
    what = "signed by another key"
    return IntegrityError(what, code="WRONG_SIGNER", expected=expected, found=found, where=where, remedy=remedy)


def _bad(where: object, *, expected: object, found: object) -> IntegrityError:
    remedy = "The registry is damaged or forged: do not use it until its holder has explained it."
    return IntegrityError("bad signature", code="BAD_SIGNATURE", expected=expected, found=found, where=where, remedy=remedy)
