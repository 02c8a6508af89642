"""Documents of keys, ``trust/1.root.json`` and so on: which keys may sign a registry, and how many must.

Each is signed by the keys of the one before it and by its own, so that a chain of them leads from the keys that a reader
trusts to those that sign now. A key that a later one leaves out is revoked.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from batteries.errors import FormatError, InputError, IntegrityError, PolicyError
from registry.catalog import store_keys
from registry.trust import signed_documents

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey
    from tuf.api.metadata import Metadata, Root

ROLES = ("root", "targets")  # that sign documents of keys, and indexes: the same keys
MAX_ROOTS = 64


@dataclass(frozen=True)
class Chain:
    """Documents of keys, each of which is signed by the one before it.

    Attributes:
        roots: Documents, the first first.
    """

    roots: tuple[Metadata[Root], ...]

    @property
    def latest(self) -> Root:
        """Last document."""
        return self.roots[-1].signed

    @property
    def number(self) -> int:
        """Number of the last document."""
        return self.latest.version

    @property
    def keys(self) -> tuple[str, ...]:
        """Ids of the keys that may sign now, sorted."""
        return tuple(sorted(self.latest.roles["targets"].keyids))

    @property
    def revoked(self) -> frozenset[str]:
        """Ids of the keys that could sign once."""
        ever = {keyid for root in self.roots for keyid in root.signed.roles["targets"].keyids}
        return frozenset(ever - set(self.keys))

    def ends_in(self, add: Iterable[SSlibKey], remove: Iterable[str], threshold: int | None) -> bool:
        """Return whether the last document is the result of a change: one that asks for nothing only renews, and never is."""
        added, removed = {key.keyid for key in add}, set(remove)
        asked = bool(added or removed or threshold) and added.isdisjoint(removed) and self.number > 1
        kept = threshold in (None, self.latest.roles["targets"].threshold)
        return asked and kept and added <= set(self.keys) and removed <= self.revoked

    def leads_from(self, pins: Collection[str]) -> bool:
        """Return whether one of the documents is signed by one of some keys, as a key of its own."""
        return any(not _signers(root).isdisjoint(pins) for root in self.roots)


def read_chain(documents: Sequence[bytes], where: str) -> Chain:
    """Read documents of keys, and check that each leads to the next.

    Args:
        documents: Bytes of the documents, from number 1 on.
        where: Address of the registry.

    Raises:
        FormatError: invalid document, or one out of its place (``SIGNATURE_FORMAT``).
        IntegrityError: document that the keys of the one before it, or its own, did not sign (``BAD_SIGNATURE``).
    """
    found: list[Metadata[Root]] = []
    for number, data in enumerate(documents, 1):
        place = f"{store_keys.root(number)} of {where}"
        root: Metadata[Root] = signed_documents.read(data, "root", where=place)
        _refuse_bad_root(root.signed, number, place)
        before = found[-1].signed if found else None
        if not root.signed.get_root_verification_result(before, root.signed_bytes, root.signatures):
            expected = "signatures by its own keys" if before is None else "signatures by the keys before it and by its own"
            raise IntegrityError("document of keys not signed by them", code="BAD_SIGNATURE", expected=expected, where=place)
        found.append(root)
    return Chain(tuple(found))


def first_root(signers: Sequence[CryptoSigner], expires: datetime) -> bytes:
    """Return the first document of a registry's keys: those of the signers, each of which may sign alone.

    Raises:
        PolicyError: too many signers (``TOO_MANY_KEYS``).
    """
    from tuf.api.metadata import Metadata, Root

    root = Root(version=1, expires=expires, consistent_snapshot=False)
    for signer in signers:
        for role in ROLES:
            root.add_key(signer.public_key, role)
    signed_documents.refuse_many(root.roles["root"].keyids)
    return signed_documents.write(Metadata(root), signers)


def next_root(
    chain: Chain,
    *,
    add: Iterable[SSlibKey] = (),
    remove: Iterable[str] = (),
    threshold: int | None = None,
    signers: Mapping[str, CryptoSigner],
    expires: datetime,
) -> bytes:
    """Return the next document of a registry's keys.

    Args:
        chain: Documents so far.
        add: Keys that may sign from now on.
        remove: Ids of keys that may not sign any more.
        threshold: Number of keys that must sign; None keeps the number.
        signers: Signers, by the id of their key.
        expires: Time after which the document is not valid.

    Raises:
        InputError: unknown key to remove (``NO_KEY``), or keys that cannot meet the threshold (``THRESHOLD``).
        PolicyError: too few of the keys of the last document, or of the new one, sign it (``NOT_ENOUGH_SIGNERS``), too many
            documents (``TOO_MANY_ROOTS``), or too many keys (``TOO_MANY_KEYS``).
    """
    from tuf.api.metadata import Metadata, Root

    root = Root.from_dict(copy.deepcopy(chain.latest.to_dict()))  # which shares its lists
    root.version, root.expires = chain.number + 1, expires
    if root.version > MAX_ROOTS:
        raise PolicyError("too many changes of keys", code="TOO_MANY_ROOTS", expected=f"at most {MAX_ROOTS}")
    for role in ROLES:
        for keyid in remove:
            if keyid not in root.roles[role].keyids:
                known = ", ".join(chain.keys)
                raise InputError("not a key of the registry", code="NO_KEY", expected=f"one of {known}", found=keyid)
            root.revoke_key(keyid, role)
        for key in add:
            root.add_key(key, role)
        root.roles[role].threshold = threshold or root.roles[role].threshold
    signed_documents.refuse_many(root.roles["root"].keyids)
    _refuse_unmet(root, chain.latest, signers)
    wanted = {*root.roles["root"].keyids, *chain.latest.roles["root"].keyids}
    return signed_documents.write(Metadata(root), [signer for keyid, signer in signers.items() if keyid in wanted])


def _refuse_unmet(root: Root, before: Root, signers: Collection[str]) -> None:
    """Raise unless the signers can sign a document for the one before it and for itself."""
    role = root.roles["root"]
    if role.threshold > len(role.keyids):
        expected = f"at least {role.threshold} keys"
        raise InputError("fewer keys than must sign", code="THRESHOLD", expected=expected, found=len(role.keyids))
    for needed in (before.roles["root"], role):
        able = sorted(set(needed.keyids) & set(signers))
        if len(able) < needed.threshold:
            raise PolicyError(
                "too few signers for a change of keys",
                code="NOT_ENOUGH_SIGNERS",
                expected=f"{needed.threshold} of {', '.join(sorted(needed.keyids))}",
                found=", ".join(able) or "none of them",
                remedy="Give --sign for the old keys, and for the new ones that must sign from now on.",
            )


def _refuse_bad_root(root: Root, number: int, where: object) -> None:
    if root.version != number:
        what, found = "document of keys out of its place", f"number {root.version}"
        raise FormatError(what, code="SIGNATURE_FORMAT", expected=f"number {number}", found=found, where=where)
    for name in ROLES:
        signed_documents.refuse_bad_role(root.roles[name], root.keys, where)


def _signers(root: Metadata[Root]) -> set[str]:
    """Return the ids of the keys of a document that signed it."""
    return set(root.signed.get_verification_result("root", root.signed_bytes, root.signatures).signed)
