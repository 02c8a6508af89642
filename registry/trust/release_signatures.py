"""Signatures of releases: a TUF document whose targets are a manifest and its file, and which lists its publisher's keys.

It stays beside the release wherever that is mirrored, and needs nothing else to be checked, since a key's id is its digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from batteries.errors import IntegrityError
from registry.catalog.release import Pin
from registry.trust import signed_documents
from registry.trust.signature import Signature
from registry.trust.signed_documents import time_text

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner
    from tuf.api.metadata import Metadata, Targets

PUBLISHER = "publisher"  # the one role that the document delegates to, itself


def sign_release(pins: Mapping[str, Pin], signers: Sequence[CryptoSigner], expires: datetime) -> bytes:
    """Sign a release.

    Args:
        pins: Pins of its manifest and its file, by key in the store.
        signers: Signers, all of which must sign.
        expires: Time after which the signature is not valid.

    Raises:
        PolicyError: too many signers (``TOO_MANY_KEYS``).
    """
    from tuf.api.metadata import DelegatedRole, Delegations, Metadata, TargetFile, Targets

    own = {signer.public_key.keyid: signer.public_key for signer in signers}
    signed_documents.refuse_many(own)
    role = DelegatedRole(PUBLISHER, sorted(own), len(own), terminating=True, paths=sorted(pins))
    targets = {name: TargetFile(pin.size, {"sha256": pin.sha256}, name) for name, pin in pins.items()}
    delegations = Delegations(dict(own), {PUBLISHER: role})
    signed = Targets(version=1, expires=expires, targets=targets, delegations=delegations)
    signed.unrecognized_fields["x-issued"] = time_text(signed_documents.now())
    return signed_documents.write(Metadata(signed), signers)


def check_release(pins: Mapping[str, Pin], signature: bytes, *, where: object) -> Signature:
    """Check the signature of a release, by the keys that it lists.

    Args:
        pins: Pins of the manifest and the file, by key in the store.
        signature: Bytes of the signature.
        where: Name of the signature in messages.

    Raises:
        FormatError: invalid document (``SIGNATURE_FORMAT``).
        IntegrityError: signature of another release, or one that its keys did not make (``BAD_SIGNATURE``).
        InputError: the extra is not installed (``EXTRA``).
    """
    found: Metadata[Targets] = signed_documents.read(signature, "targets", where=where)
    signed = found.signed
    role = (signed.delegations.roles or {}).get(PUBLISHER) if signed.delegations else None
    if signed.delegations is None or role is None:
        raise _bad(where, expected="the key of its publisher", found="none")
    signed_documents.refuse_bad_role(role, signed.delegations.keys, where)
    promised = {name: (pin.size, {"sha256": pin.sha256}) for name, pin in pins.items()}
    if {name: (target.length, target.hashes) for name, target in signed.targets.items()} != promised:
        raise _bad(where, expected=", ".join(sorted(promised)), found="another release")
    result = signed.get_verification_result(PUBLISHER, found.signed_bytes, found.signatures)
    if not result:
        raise _bad(where, expected=f"a signature by {', '.join(role.keyids)}", found="another")
    issued = signed.unrecognized_fields.get("x-issued")
    if not (isinstance(issued, str) and signed_documents.is_time(issued)):
        raise _bad(where, expected="a time of signing", found="none")
    return Signature(state="signed", signers=tuple(sorted(result.signed)), issued=issued, expires=time_text(signed.expires))


def _bad(where: object, *, expected: object, found: object) -> IntegrityError:
    remedy = "The release is damaged or forged: do not use it until its publisher has explained it."
    return IntegrityError("bad signature", code="BAD_SIGNATURE", expected=expected, found=found, where=where, remedy=remedy)
