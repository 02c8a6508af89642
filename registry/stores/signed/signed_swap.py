"""The swap of an index for another, after its signature: index and signature appear together."""

from __future__ import annotations

from batteries.errors import ConflictError, FormatError, IntegrityError
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.catalog.release import Pin
from registry.stores.store import Store
from registry.trust import library, signed_documents
from registry.trust.index_signatures import check_index, sign_index
from registry.trust.roots import Chain, first_root, read_chain
from registry.trust.signed_documents import MAX_SIGNED
from registry.trust.signing import Signing


def signed_swap(
    store: Store,
    before: str | None,
    wanted: Index,
    chain: Chain | None,
    signing: Signing | None,
    *,
    beyond: Chain | None = None,
) -> Index:
    """Put an index in the place of another, after its signature and, for the first one, the document of keys.

    Returns:
        Index that is there now: a later one of the same contents, if a signature that does not do had the place of its own.

    Args:
        store: Store of the index.
        before: SHA-256 of the index to replace; None for the first.
        wanted: Index.
        chain: Documents of keys in force; None for a registry that was not signed.
        signing: Signers; None for a registry that is not signed.
        beyond: Documents of keys that follow, whose keys sign as well.
    """
    if signing is not None:
        if chain is None:
            library.require()
            root = first_root(signing.signers, signed_documents.in_days(signed_documents.LONG_DAYS))
            store.put(store_keys.root(1), root)
            chain = read_chain([root], store.url)
        by = signing.by({*chain.keys, *(beyond.keys if beyond else ())})
        while not _put_signature(store, wanted, chain, by):
            wanted = wanted.refreshed()
    store.swap_index(before, wanted.sealed())
    return wanted


def _put_signature(store: Store, wanted: Index, chain: Chain, signing: Signing) -> bool:
    """Write the signature of an index, and return whether it has one: one that another writer of the same index left may do.

    Raises:
        ConflictError: signature under keys that came into force meanwhile (``INDEX_MOVED``).
    """
    index = Pin.of(wanted.sealed())
    key = store_keys.signature(index.sha256)
    try:
        store.put(key, sign_index(index, wanted.number, chain.number, signing.signers, signing.expires))
    except ConflictError:
        present = store.read(key, limit=MAX_SIGNED)
        try:
            return not check_index(index, wanted.number, present, chain, store.url).expired
        except IntegrityError as error:
            if error.code != "MISSING_ROOT":
                return False
            remedy = "Repeat the change."
            raise ConflictError("keys changed by another writer", code="INDEX_MOVED", where=store.url, remedy=remedy) from error
        except FormatError:
            return False
    return True
