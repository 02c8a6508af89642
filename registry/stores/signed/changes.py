"""Changes of an index: every file first, then the index's signature, then the index itself, by compare-and-swap.

This is the one place where a registry changes. A registry with documents of keys is signed: a change without a signer is
refused before anything is written, and so is one on top of an index that its keys did not sign.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from batteries.errors import ConflictError, IntegrityError, NotFoundError, PolicyError
from batteries.io.atomic_files import Data
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.catalog.release import AnyRelease, Pin
from registry.stores.signed.reading import Reading, is_overtaken, settled
from registry.stores.signed.signed_swap import signed_swap
from registry.stores.store import INDEX, Store
from registry.stores.write_rules import read_only
from registry.trust import signed_documents
from registry.trust.index_signatures import check_index
from registry.trust.release_signatures import sign_release
from registry.trust.roots import MAX_ROOTS, Chain, read_chain
from registry.trust.signed_documents import MAX_SIGNED
from registry.trust.signing import Signing

ATTEMPTS = 100  # to change an index that other writers change too
PAUSE = 0.05  # longest wait between two attempts, in seconds

Change = Callable[[Index], Index]


def change_index(
    store: Store, change: Change, *, files: Iterable[tuple[str, Data]] = (), signing: Signing | None = None
) -> tuple[Index, bool]:
    """Change the index of a store, with retries if other writers change it at the same time.

    Args:
        store: Store with the index.
        change: Function from the current index to the wanted one; returning the same object means no change.
        files: Keys and bytes to write before; none is asked for before the change is known to be allowed.
        signing: Signers; None for a registry that is not signed. The first signed change makes the registry's first document of
            keys, with the keys of these signers.

    Returns:
        Index that holds the change, and whether this call made it.

    Raises:
        ConflictError: raised by ``change``, or the index changed at every attempt (``INDEX_MOVED``).
        PolicyError: signed registry, and no signer (``SIGNER_NEEDED``).
        IntegrityError: signers that may not sign for the registry (``WRONG_SIGNER``, ``TOO_FEW_SIGNERS``), a current index that
            its keys did not sign (``UNSIGNED``, and as :func:`registry.trust.index_signatures.check_index`), or one that a
            reader of this machine refuses (``ROLLBACK``, ``WRONG_ROOT`` and so on).
    """
    refuse_unsigned_change(store, signing)
    for key, data in files:
        # a release has one signature, that of its first publisher
        with contextlib.suppress(*([ConflictError] if key.startswith(f"{store_keys.SIGNATURES}/") else [])):
            store.put(key, data)
    return _swapped(store, change, signing)


@dataclass(frozen=True)
class Present:
    """A registry as a change finds it: what is checked is what is changed.

    Attributes:
        index: Index; an empty one if there is none yet.
        pin: Pin of its bytes; None if there is none yet.
        chain: Documents of keys; None if it is not signed.
    """

    index: Index
    pin: Pin | None
    chain: Chain | None

    @property
    def digest(self) -> str | None:
        """SHA-256 of the index's bytes; None if there is none yet."""
        return None if self.pin is None else self.pin.sha256

    @classmethod
    def read(cls, store: Store) -> Present:
        """Read a registry that is to be changed.

        Raises:
            IntegrityError: an index that a reader of this machine refuses: not signed or by other keys than those pinned or
                seen before, or signed, and older than one that was read here.
            PolicyError: read-only store (``READ_ONLY``).
        """
        if not getattr(store, "writable", True):  # no key makes such a store writable
            raise read_only(store.url)
        reading = Reading.begin(store)
        data = store.read_index()
        chain = chain_of(store)
        if data is None:
            return cls(Index(), None, chain)
        index = Index.from_bytes(data, where=f"{INDEX} of {store.url}")
        reading.refuse_change(data, index, chain)
        return cls(index, Pin.of(data), chain)


def refuse_unsigned_change(store: Store, signing: Signing | None, *, first: bool = False) -> Present:
    """Return a registry that is to be changed; raise unless the signers may change it.

    Args:
        store: Store of the registry.
        signing: Signers.
        first: Whether these signers were the first a moment ago: another writer may have changed the index without a key since.

    Raises:
        BatteriesError: as :func:`change_index`.
    """

    def once() -> tuple[Pin | None, Callable[[], Present]]:
        present = Present.read(store)
        return present.pin, partial(_changeable, store, present, signing, first=first)

    return settled(store, once)


def _changeable(store: Store, present: Present, signing: Signing | None, *, first: bool) -> Present:
    if present.chain is not None:
        if signing is None:
            raise _signer_needed(store, present.chain)
        refuse_others(store, present.chain, signing)
        if not (first and _is_unsigned(store, present)):
            check_present(store, present.chain, present)
    return present


def check_signed(store: Store, index: Index) -> bool:
    """Check the signature of an index as a registry has it now, and return whether the registry is signed.

    An index that a change of keys overtook since it was read has no fault.

    Raises:
        BatteriesError: as :func:`chain_of` and :func:`check_present`.
    """
    chain, pin = chain_of(store), Pin.of(index.sealed())
    try:
        if chain is not None:
            check_present(store, chain, Present(index, pin, chain))
    except IntegrityError as error:
        if not is_overtaken(store, pin, error):
            raise
    return chain is not None


def chain_of(store: Store) -> Chain | None:
    """Return the documents of a registry's keys; None if it is not signed.

    Raises:
        BatteriesError: as :func:`registry.trust.roots.read_chain`.
    """
    documents: list[bytes] = []
    while len(documents) < MAX_ROOTS and (data := _read(store, store_keys.root(len(documents) + 1))) is not None:
        documents.append(data)
    return read_chain(documents, store.url) if documents else None


def refuse_others(store: Store, chain: Chain, signing: Signing) -> None:
    """Raise unless the signers may sign for a registry.

    Raises:
        IntegrityError: other keys (``WRONG_SIGNER``), revoked ones (``KEY_REVOKED``), or fewer than must sign
            (``TOO_FEW_SIGNERS``).
    """
    able, role = set(chain.keys) & set(signing.ids), chain.latest.roles["targets"]
    expected, found = f"{role.threshold} of {', '.join(chain.keys)}", ", ".join(signing.ids)
    if not able:
        if chain.revoked & set(signing.ids):
            raise IntegrityError("revoked key", code="KEY_REVOKED", expected=expected, found=found, where=store.url)
        raise IntegrityError("not a key of the registry", code="WRONG_SIGNER", expected=expected, found=found, where=store.url)
    if len(able) < role.threshold:
        raise IntegrityError("too few signers", code="TOO_FEW_SIGNERS", expected=expected, found=found, where=store.url)


def release_signature(path: str, version: str, release: AnyRelease, signing: Signing) -> bytes:
    """Return the signature of a release, which is valid long after that of any index that lists it."""
    pins: dict[str, Pin] = {
        store_keys.manifest(path, version): release.manifest,
        store_keys.blob(release.blob.sha256): release.blob,
    }
    return sign_release(pins, signing.signers, signed_documents.in_days(signed_documents.LONG_DAYS))


def _swapped(store: Store, change: Change, signing: Signing | None) -> tuple[Index, bool]:
    first = False
    for attempt in range(ATTEMPTS):
        present = refuse_unsigned_change(store, signing, first=first)
        first = first or present.chain is None
        wanted = change(present.index)
        made = wanted is not present.index
        if not made and (signing is None or present.chain is not None or present.digest is None):
            return wanted, False
        if not made:  # the first key that signs is the registry's from then on, also if there was nothing else to change
            wanted = wanted.refreshed()
        try:
            wanted = signed_swap(store, present.digest, wanted, present.chain, signing)
        except ConflictError as error:
            refuse_unless_moved(error, attempt)
            time.sleep(random.uniform(0, PAUSE))
        else:
            return wanted, made
    raise AssertionError("unreachable")


def refuse_unless_moved(refusal: ConflictError, attempt: int) -> None:
    """Raise a refusal again, unless it says that another writer changed the index meanwhile and an attempt is left."""
    if refusal.code != "INDEX_MOVED" or attempt == ATTEMPTS - 1:
        raise refusal


def check_present(store: Store, chain: Chain, present: Present) -> None:
    """Raise unless the index of a signed registry, if it has one, is signed by its keys.

    Raises:
        IntegrityError: no signature (``UNSIGNED``), and as :func:`registry.trust.index_signatures.check_index`.
    """
    pin = present.pin
    if pin is None:
        return
    key = store_keys.signature(pin.sha256)
    signature = _read(store, key)
    if signature is None:
        raise IntegrityError(
            "index of a signed registry without a signature",
            code="UNSIGNED",
            expected=f"a signature by {', '.join(chain.keys)}",
            found="none",
            where=f"{key} of {store.url}",
            remedy="If it is as it should be (`batteries verify --all`), sign it: `batteries key refresh`.",
        )
    check_index(pin, present.index.number, signature, chain, store.url)


def _is_unsigned(store: Store, present: Present) -> bool:
    """Return whether an index has no signature, not even a false one."""
    return present.pin is not None and _read(store, store_keys.signature(present.pin.sha256)) is None


def _signer_needed(store: Store, chain: Chain) -> PolicyError:
    return PolicyError(
        "signed registry changed without a key",
        code="SIGNER_NEEDED",
        expected=f"--sign with {chain.latest.roles['targets'].threshold} of {', '.join(chain.keys)}",
        where=store.url,
        remedy="Give --sign KEY, or ask the registry's holder.",
    )


def _read(store: Store, key: str) -> bytes | None:
    try:
        return store.read(key, limit=MAX_SIGNED)
    except NotFoundError:
        return None
