"""Facts of a signature: its keys, when it was made, and how long it is valid."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from batteries import short_repr
from batteries.cell.manifest import Sha256, Text
from batteries.errors import IntegrityError, PolicyError
from batteries.io.canonical_json import Document
from registry.trust import library
from registry.trust.signed_documents import now, time_of

SHOWN = 16  # digits of a key's id in words

State = Literal["signed", "not signed", "not checked"]


class Signature(Document):
    """Signature of a registry's index, or of a release.

    Attributes:
        state: *signed*, by keys of the registry that were checked; *not signed*; or *not checked*, without the extra ``trust``.
        signers: Ids of the keys that signed, sorted.
        issued: Time of signing; None where unknown.
        expires: Time after which it is not valid; None where unknown.

    >>> import registry
    >>> store = registry.MemoryStore()
    >>> published = registry.publish(registry.load("low/fresnel-64"), store)
    >>> registry.find("low/*", registry=store)[0].snapshot.signature.words
    'not signed'
    """

    state: State
    signers: tuple[Sha256, ...] = ()
    issued: Text | None = None
    expires: Text | None = None

    def __repr__(self) -> str:
        return short_repr.headed(self, self.words)

    @property
    def words(self) -> str:
        """Signature in words, for a list or a page."""
        if self.state == "signed":
            return f"signed by {', '.join(short_id(keyid) for keyid in self.signers)}"
        return "not signed" if self.state == "not signed" else f"signature not checked ({library.REMEDY})"

    @property
    def expired(self) -> bool:
        """True if it is not valid any more."""
        return self.expires is not None and now() >= time_of(self.expires)


NOT_SIGNED = Signature(state="not signed")
NOT_CHECKED = Signature(state="not checked")


def short_id(keyid: str) -> str:
    """Return the start of a key's id, as lists show it.

    >>> short_id("0123456789abcdef" * 4)
    '0123456789abcdef'
    """
    return keyid[:SHOWN]


def refuse_others(wanted: Collection[str], where: object, *signatures: Signature) -> None:
    """Raise unless one of some signatures is by one of the keys that are wanted; any will do if none is.

    Raises:
        IntegrityError: none of them (``UNSIGNED``), or only by other keys (``WRONG_SIGNER``).
        PolicyError: one that cannot be checked without the extra (``EXTRA``).
    """
    signers = {keyid for one in signatures for keyid in one.signers}
    if not wanted or signers & set(wanted):
        return
    if any(one.state == "not checked" for one in signatures):
        raise PolicyError("signature not checked", code="EXTRA", where=where, remedy=library.REMEDY)
    expected = f"a signature by {' or '.join(sorted(wanted))}"
    if not signers:
        raise IntegrityError("not signed", code="UNSIGNED", expected=expected, found="none", where=where)
    found = ", ".join(sorted(signers))
    raise IntegrityError("signed by another key", code="WRONG_SIGNER", expected=expected, found=found, where=where)
