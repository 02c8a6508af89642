"""Changes of a registry's keys, and new signatures of its index as it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from batteries.errors import ConflictError, InputError, IntegrityError
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.catalog.release import Pin
from registry.stores.signed.changes import (
    ATTEMPTS,
    Present,
    check_present,
    refuse_others,
    refuse_unless_moved,
    refuse_unsigned_change,
    release_signature,
)
from registry.stores.signed.signed_swap import signed_swap
from registry.stores.store import Store, no_index
from registry.trust import signed_documents
from registry.trust.roots import Chain, next_root, read_chain
from registry.trust.signed_documents import LONG_DAYS
from registry.trust.signing import Signing

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey


def refresh(store: Store, signing: Signing, *, releases: bool = False) -> Index:
    """Sign the index of a registry as it is, in a next index of the same contents.

    The current one need not be signed: so a registry is signed for the first time, or again after it was changed without keys.

    Args:
        store: Store of the registry.
        signing: Signers.
        releases: Whether releases without a signature are signed, too.

    Raises:
        NotFoundError: no index (``NO_INDEX``).
        IntegrityError: signers that may not sign for the registry (``WRONG_SIGNER``, ``TOO_FEW_SIGNERS``), an index older than
            one that was read on this machine (``ROLLBACK``), keys other than those pinned or seen here before, or a change by
            a writer without the keys in force meanwhile (``UNSIGNED``).
        ConflictError: index of a registry that was not signed changed meanwhile, or at every attempt (``INDEX_MOVED``).
    """
    return _refreshed_from(store, Present.read(store), signing, releases=releases)


def rotate(
    store: Store,
    signing: Signing,
    *,
    add: Iterable[SSlibKey] = (),
    remove: Iterable[str] = (),
    threshold: int | None = None,
) -> Index:
    """Change the keys of a signed registry: the next document of keys, and a next index that they sign.

    At no time is the index one that a reader refuses: if the keys that remain did not sign the current one, it is signed again
    first, by old and new keys. The same change once more, after one that was killed, makes no further document of keys: the
    index is signed under the last one.

    Args:
        store: Store of the registry.
        signing: Signers: enough of the old keys, and of those that must sign from now on.
        add: Keys that may sign from now on.
        remove: Ids of keys that may not sign any more.
        threshold: Number of keys that must sign; None keeps the number.

    Raises:
        InputError: registry that is not signed (``NOT_SIGNED``), or as :func:`registry.trust.roots.next_root`.
        PolicyError: too few signers (``NOT_ENOUGH_SIGNERS``).
        IntegrityError: a current index that the keys in force did not sign (``UNSIGNED``, ``BAD_SIGNATURE`` and so on), or one
            that a reader of this machine refuses.
        ConflictError: index changed by other writers at every attempt (``INDEX_MOVED``), or the keys by another one.
    """
    added, removed = tuple(add), tuple(remove)
    present = Present.read(store)
    if present.chain is not None and present.chain.ends_in(added, removed, threshold):
        return _refreshed_from(store, refuse_unsigned_change(store, signing), signing)
    for attempt in range(ATTEMPTS):
        try:
            present, longer = _prepared(store, signing, added, removed, threshold)
            break
        except ConflictError as error:
            refuse_unless_moved(error, attempt)
    store.put(store_keys.root(longer.number), longer.roots[-1].to_bytes())
    return _refreshed_last(store, present, longer, signing)


def _refreshed_from(store: Store, present: Present, signing: Signing, *, releases: bool = False) -> Index:
    """Sign the index that was read, or one that the keys in force signed meanwhile."""
    for attempt in range(ATTEMPTS):
        if present.chain is not None:
            refuse_others(store, present.chain, signing)
        if releases:
            _sign_releases(store, present.index, signing)
        try:
            return _refreshed(store, present, present.chain, signing).index
        except ConflictError as error:
            refuse_unless_moved(error, attempt)
            if present.chain is None:
                raise  # the caller has not looked at this one, and no key speaks for it
            present = refuse_unsigned_change(store, signing)
    raise AssertionError("unreachable")


def _prepared(
    store: Store, signing: Signing, add: Iterable[SSlibKey], remove: Iterable[str], threshold: int | None
) -> tuple[Present, Chain]:
    """Return a registry whose index the keys of a longer chain have signed, and that chain, which is not written yet."""
    present = Present.read(store)
    chain = present.chain
    if chain is None:
        remedy = "Sign it first: `batteries key refresh`, or `batteries publish --sign`."
        raise InputError("registry not signed", code="NOT_SIGNED", where=store.url, remedy=remedy)
    signers = {signer.public_key.keyid: signer for signer in signing.signers}
    expires = signed_documents.in_days(LONG_DAYS)
    root = next_root(chain, add=add, remove=remove, threshold=threshold, signers=signers, expires=expires)
    longer = read_chain([*(one.to_bytes() for one in chain.roots), root], store.url)
    refuse_others(store, longer, signing)
    check_present(store, chain, present)  # a change of keys signs nothing that they did not
    if not _signed_for(store, present, longer):
        present = _refreshed(store, present, chain, signing, beyond=longer)
    return present, longer


def _refreshed_last(store: Store, present: Present, longer: Chain, signing: Signing) -> Index:
    """Sign the index under the next document of keys, also if one who did not know it yet changed the index meanwhile."""
    before = Chain(longer.roots[:-1])
    for attempt in range(ATTEMPTS):
        try:
            return _refreshed(store, present, longer, signing).index
        except ConflictError as error:
            refuse_unless_moved(error, attempt)
        present = Present.read(store)
        if not _signed_for(store, present, longer):
            check_present(store, before, present)
    raise AssertionError("unreachable")


def _refreshed(store: Store, present: Present, chain: Chain | None, signing: Signing, beyond: Chain | None = None) -> Present:
    """Sign the index that was read, and no other, in a next one of the same contents."""
    if present.digest is None:
        raise no_index(store.url)
    wanted = signed_swap(store, present.digest, present.index.refreshed(), chain, signing, beyond=beyond)
    return Present(wanted, Pin.of(wanted.sealed()), chain)


def _sign_releases(store: Store, index: Index, signing: Signing) -> None:
    """Write the signatures of releases that have none."""
    present = set(store.keys(f"{store_keys.SIGNATURES}/"))
    for path, version, release in index.everything():
        key = store_keys.signature(release.manifest.sha256)
        if key not in present:
            store.put(key, release_signature(path, version, release, signing))


def _signed_for(store: Store, present: Present, chain: Chain) -> bool:
    """Return whether an index is signed by keys of a chain."""
    try:
        check_present(store, chain, present)
    except IntegrityError:
        return False
    return True
