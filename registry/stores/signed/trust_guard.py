"""The check of a registry's signature, before anything of its index is used or remembered.

A registry is *trusted* if keys are pinned for it, or if its signature was seen before on this machine. An index of a trusted
registry must be signed by keys to which a chain of its documents of keys leads. For any other registry, a signature is checked
if there is one, and its keys are remembered from then on.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batteries.cell.manifest import Sha256
from batteries.errors import FormatError, IntegrityError, NotFoundError, PolicyError
from batteries.io.canonical_json import Document
from registry.catalog import store_keys
from registry.catalog.release import Pin
from registry.stores.cache import Cache
from registry.stores.store import Store
from registry.trust import library
from registry.trust.index_signatures import check_index, wrong_signer
from registry.trust.roots import MAX_ROOTS, Chain, read_chain
from registry.trust.signature import NOT_SIGNED, Signature
from registry.trust.signed_documents import MAX_SIGNED, time_text

Expiry = Literal["refused", "told", "ignored"]


class SignerWarning(UserWarning):
    """A registry's keys were seen for the first time, or its signature has expired.

    Args:
        text: Warning.
    """


class Trust(Document):
    """Record of a registry's signature on this machine.

    Attributes:
        signature: Signature of the last accepted index.
        document: Pin of that signature's bytes; None if the index was not signed.
        roots: Pins of the documents of keys, from number 1 on.
        keys_expire: Time after which the last document of keys is not valid; empty without one.
        pins: Ids of the keys that were pinned when it was checked.
    """

    signature: Signature
    document: Pin | None = None
    roots: tuple[Pin, ...] = ()
    keys_expire: str = ""
    pins: tuple[Sha256, ...] = ()


UNSIGNED = Trust(signature=NOT_SIGNED)


@dataclass(frozen=True)
class TrustGuard:
    """Check of a registry's signature.

    Attributes:
        store: Store of the registry.
        pins: Ids of the keys that are pinned for it.
        known: Record of its signature; None without one, or if it was made under other pins.
        cache: Cache with the documents of keys that were accepted.
        expiry: Consequence of a signature that has expired: where keys are pinned it is *refused*; *told* and *ignored* are for
            readers without a network, and for writers.
    """

    store: Store
    pins: tuple[str, ...]
    known: Trust | None
    cache: Cache
    expiry: Expiry = "refused"

    @property
    def trusted(self) -> bool:
        """True if an index without a valid signature is refused."""
        return bool(self.pins) or (self.known is not None and self.known.document is not None)

    def check(self, index: Pin, number: int, *, same: bool) -> tuple[Trust | None, tuple[bytes, ...]]:
        """Check the signature of an index.

        Args:
            index: Pin of the index's bytes.
            number: Number of the index.
            same: Whether the index is the one whose signature was remembered.

        Returns:
            Record of the signature, None for one that cannot be checked here, and documents to keep for it.

        Raises:
            IntegrityError: a trusted registry without a signature (``UNSIGNED``), a signature by keys to which no chain leads
                from the trusted ones (``WRONG_SIGNER``), missing or changed documents of keys (``MISSING_ROOT``,
                ``WRONG_ROOT``), or any error of :func:`registry.trust.index_signatures.check_index`.
            PolicyError: pinned keys, and a signature or keys that have expired (``SIGNATURE_EXPIRED``, ``KEYS_EXPIRED``);
                a trusted registry whose signature cannot be checked without the extra (``EXTRA``).
        """
        if same and self.known is not None and (self.known.document is not None or not self.trusted):
            self._refuse_expired(self.known)
            return self.known, ()
        document = self._read(store_keys.signature(index.sha256))
        if document is None:
            self._refuse_unsigned(index)
            return UNSIGNED, ()
        if not library.is_there():
            self._refuse_unchecked()
            return None, ()
        roots = self._roots()
        chain = self._chain(roots)
        signature = check_index(index, number, document, chain, self.store.url)
        trust = Trust(
            signature=signature,
            document=Pin.of(document),
            roots=tuple(map(Pin.of, roots)),
            keys_expire=time_text(chain.latest.expires),
            pins=self.pins or (self.known.pins if self.known else ()),
        )
        self._refuse_expired(trust)
        return trust, (document, *roots)

    def check_keys(self, index: Pin, chain: Chain | None) -> None:
        """Check the documents of keys of a registry that is about to be changed, all of them as the registry has them.

        Args:
            index: Pin of the index's bytes.
            chain: Documents of keys; None if the registry has none.

        Raises:
            IntegrityError: none, for a trusted registry (``UNSIGNED``), none that leads from the pinned keys
                (``WRONG_SIGNER``), or others than those seen before (``WRONG_ROOT``).
        """
        if chain is None:
            self._refuse_unsigned(index)
            return
        self._refuse_strangers(chain)
        found = dict(enumerate((root.to_bytes() for root in chain.roots), 1))
        for number, pin in enumerate(self.known.roots if self.known else (), 1):
            self._refuse_changed(number, pin, found.get(number))

    def _chain(self, roots: Sequence[bytes]) -> Chain:
        chain = read_chain(roots, self.store.url)
        self._refuse_strangers(chain)
        return chain

    def _refuse_strangers(self, chain: Chain) -> None:
        if self.pins and not chain.leads_from(self.pins):
            raise wrong_signer(expected=" or ".join(self.pins), found=", ".join(chain.keys), where=self.store.url)

    def _roots(self) -> list[bytes]:
        """Return the documents of keys: those remembered, and those that the registry has after them."""
        found = [self._remembered(number, pin) for number, pin in enumerate(self.known.roots if self.known else (), 1)]
        while len(found) < MAX_ROOTS and (data := self._read(store_keys.root(len(found) + 1))) is not None:
            found.append(data)
        if not found:
            key = store_keys.root(1)
            raise IntegrityError("missing document of keys", code="MISSING_ROOT", expected=key, where=self.store.url)
        return found

    def _remembered(self, number: int, pin: Pin) -> bytes:
        held = self.cache.held(pin)
        if held is not None:
            return held.data
        return self._refuse_changed(number, pin, self._read(store_keys.root(number)))

    def _refuse_changed(self, number: int, pin: Pin, data: bytes | None) -> bytes:
        """Return a document of keys; raise unless it is the one that was seen before."""
        if data is None or Pin.of(data) != pin:
            found = "nothing" if data is None else f"sha256 {Pin.of(data).sha256}"
            where = self._at(store_keys.root(number))
            raise IntegrityError(
                "document of keys changed", code="WRONG_ROOT", expected=f"sha256 {pin.sha256}", found=found, where=where
            )
        return data

    def _read(self, key: str) -> bytes | None:
        try:
            return self.store.read(key, limit=MAX_SIGNED)
        except NotFoundError:
            return None
        except FormatError as error:
            if error.code == "TOO_LARGE":
                error.code = "SIGNATURE_FORMAT"
            raise

    def _refuse_unsigned(self, index: Pin) -> None:
        if self.trusted:
            raise IntegrityError(
                "registry not signed",
                code="UNSIGNED",
                expected=f"a signature by {' or '.join(self._trusted_keys())}",
                found="none",
                where=self._at(store_keys.signature(index.sha256)),
                remedy=self._remedy("Do not use it until its holder has explained it."),
            )

    def _refuse_unchecked(self) -> None:
        if self.trusted:
            raise PolicyError("signature not checked", code="EXTRA", where=self.store.url, remedy=library.REMEDY)

    def _refuse_expired(self, trust: Trust) -> None:
        if trust.document is None or self.expiry == "ignored":
            return
        keys = Signature(state="signed", expires=trust.keys_expire)
        for what, code, one, renewed in (
            ("signature expired", "SIGNATURE_EXPIRED", trust.signature, "signs it again: `batteries key refresh`"),
            ("keys of the registry expired", "KEYS_EXPIRED", keys, "renews them: `batteries key rotate`"),
        ):
            if one.expired:
                remedy = f"Its holder {renewed}. An old index may lack yanks and verdicts."
                error = PolicyError(what, code=code, found=f"valid until {one.expires}", where=self.store.url, remedy=remedy)
                if self.pins and self.expiry == "refused":
                    raise error
                warnings.warn(SignerWarning(str(error)), stacklevel=2)

    def _trusted_keys(self) -> tuple[str, ...]:
        return self.pins or (self.known.signature.signers if self.known else ())

    def _remedy(self, text: str) -> str:
        return text if self.pins else f"{text} It was signed when it was read here before."

    def _at(self, key: str) -> str:
        return f"{key} of {self.store.url}"


def say_first_use(url: str, trust: Trust, place: Path) -> None:
    """Warn that a registry's keys were seen for the first time.

    Args:
        url: Address of the registry.
        trust: Record of its signature.
        place: Configuration file, in which keys are pinned.
    """
    ids = ", ".join(trust.signature.signers)
    line = f'{json.dumps(url, ensure_ascii=False)} = "{trust.signature.signers[0]}"'
    pin = f"to pin it, add the line {line} to the table [trusted] of {place}"
    warnings.warn(SignerWarning(f"{url} is signed by {ids}, seen for the first time: {pin}"), stacklevel=2)
