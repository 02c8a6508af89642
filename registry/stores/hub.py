"""A store in a repository of the Hugging Face Hub. A change is written as one commit, and a registry is read at one commit.

Reading the index resolves the revision; everything after it is read at that commit, so a branch that moves meanwhile does not
mix two states. Bytes put are staged in memory until the index is swapped: then they, the index, a bundle of all manifests and
the model card become one commit on top of the one that was compared, or nothing is written.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from batteries.cell.model_card import CARD
from batteries.errors import BatteriesError, ConflictError, FormatError, InputError, NotFoundError, PolicyError, TransportError
from batteries.io.atomic_files import Data
from batteries.io.canonical_json import sha256
from batteries.network.hub_answers import Entry
from batteries.network.hub_repository import MAIN, PATIENCE, HubRepository
from batteries.network.limits import DEFAULT, Limits
from registry.catalog import manifest_bundle, store_keys
from registry.catalog.index import MAX_INDEX, Index
from registry.catalog.release import Pin
from registry.stores.registry_card import registry_card
from registry.stores.store import INDEX
from registry.stores.verified_read import read_pinned
from registry.stores.write_rules import refuse_moved, refuse_other, taken

FORM = "hf://owner/repo[@revision]"
_ADDRESS = re.compile(r"hf://(?P<repo>[^@]*)(?:@(?P<revision>.*))?", re.DOTALL)


@dataclass(frozen=True)
class Reading:
    """A registry at one commit.

    Attributes:
        commit: Commit that was read; None if there is no repository yet.
        kind: Kind of revision: ``branch``, ``tag`` or ``other``.
        index: Bytes of the index; None if there is none.
    """

    commit: str | None
    kind: str
    index: bytes | None

    @cached_property
    def pins(self) -> dict[str, Pin]:
        """Pins of the manifests that the index lists, by key; empty if the index is missing or invalid."""
        return {} if self.index is None else _pins(_parsed(self.index))


class HubStore:
    """A registry at ``hf://owner/repo[@revision]``. Only a branch can be written to.

    Args:
        address: Address of the registry.
        writable: Whether to allow writes; they create the repository if there is none.
        endpoint: Address of the Hub; by default ``HF_ENDPOINT`` or the public one.
        token: Access token; by default the one that huggingface_hub finds.
        limits: Time and bytes allowed for reading one file.
        patience: Seconds for one commit, in addition to the time that its bytes take.

    Raises:
        InputError: invalid address (``BAD_ADDRESS``, ``BAD_REPOSITORY``, ``BAD_REVISION``).

    >>> import registry
    >>> store = registry.HubStore("hf://me/cells@v1", writable=False)
    >>> store.url
    'hf://me/cells@v1'
    """

    def __init__(
        self,
        address: str,
        *,
        writable: bool = True,
        endpoint: str | None = None,
        token: str | None = None,
        limits: Limits = DEFAULT,
        patience: float = PATIENCE,
    ) -> None:
        parts = _ADDRESS.fullmatch(address)
        if parts is None:
            raise InputError("invalid Hub address", code="BAD_ADDRESS", expected=FORM, found=repr(address[:120]))
        revision = MAIN if parts["revision"] is None else parts["revision"]
        self.writable = writable
        self._address = address
        self._repository = HubRepository(
            parts["repo"], revision=revision, endpoint=endpoint, token=token, limits=limits, patience=patience
        )
        self._lock = threading.RLock()
        self._staged: dict[str, bytes] = {}
        self._manifests: dict[str, bytes] = {}  # read at any commit; compared with a pin before use
        self._listed: tuple[str, dict[str, Entry]] | None = None
        self._reading: Reading | None = None

    def __repr__(self) -> str:
        return f"HubStore({self._address!r}, writable={self.writable})"

    @property
    def url(self) -> str:
        """Address as given."""
        return self._address

    @property
    def endpoint(self) -> str:
        """Address of the Hub that has the registry."""
        return self._repository.endpoint

    @property
    def fixed_commit(self) -> str | None:
        """See :meth:`registry.Store.fixed_commit`."""
        reading = self._now()
        return reading.commit if reading.kind == "tag" else None

    def read(self, key: str, *, limit: int) -> bytes:
        """See :meth:`registry.Store.read`, here at the commit of the last index that was read."""
        staged = self._staged.get(store_keys.check(key))
        if staged is None:
            commit = self._now().commit
            if commit is None:
                raise NotFoundError("no such file", code="NO_FILE", where=f"{key} of {self.url}")
            return self._repository.read(key, commit=commit, limit=limit)
        if len(staged) > limit:
            raise FormatError("too large", code="TOO_LARGE", expected=f"at most {limit} bytes", where=f"{key} of {self.url}")
        return staged

    def read_many(self, limits: Mapping[str, int]) -> dict[str, bytes]:
        """See :meth:`registry.Store.read_many`; several manifests come in one request."""
        reading = self._now()
        wanted = {key: reading.pins[key] for key in limits if key in reading.pins}
        found = self._together(reading, wanted) if len(wanted) > 1 else {}
        for key, limit in limits.items():
            if key not in found:
                with contextlib.suppress(NotFoundError, FormatError):
                    found[key] = self.read(key, limit=limit)
        return {key: data for key, data in found.items() if len(data) <= limits[key]}

    def keys(self, prefix: str = "") -> list[str]:
        """See :meth:`registry.Store.keys`. Files whose path is not a key are ignored."""
        present = {key for key in self._files(self._now()) if store_keys.is_key(key)}
        return sorted(key for key in present | self._staged.keys() if key.startswith(prefix))

    def put(self, key: str, data: Data) -> None:
        """See :meth:`registry.Store.put`. The bytes are staged in memory until the index is swapped."""
        store_keys.check(key)
        reading = self._writable()
        present = self._files(reading).get(key)
        if present is not None:
            self._refuse_other(key, present, data)
            return
        with self._lock:
            staged = self._staged.setdefault(key, bytes(data))
        refuse_other(key, staged, data, self.url)

    def read_index(self) -> bytes | None:
        """See :meth:`registry.Store.read_index`. Resolves the revision again."""
        self._reading = self._look()
        return self._reading.index

    def swap_index(self, expected: str | None, data: bytes) -> None:
        """See :meth:`registry.Store.swap_index`. One commit holds the index and all staged bytes.

        Raises:
            ConflictError: another writer swapped first (``INDEX_MOVED``; staged bytes are kept), or wrote other bytes under a
                key (``VERSION_EXISTS``).
            TransportError: network failure; if the response to the commit was lost, the branch shows whether it was made.
        """
        self._writable()
        with self._lock:
            head = self._look()
            refuse_moved(expected, head.index, self.url)
            if head.commit is None:
                self._repository.create()
                head = self._look()
                refuse_moved(expected, head.index, self.url)
            self._reading = head
            self._drop_signatures(data)
            self._settle_staged(head)
            commit = self._commit(head, {**self._staged, INDEX: data, **self._derived(head, data)})
            if self._listed and self._listed[0] == head.commit:
                self._listed = commit, {**self._listed[1], **{key: Entry.of(key, put) for key, put in self._staged.items()}}
            self._reading = Reading(commit, head.kind, data)
            self._staged.clear()

    def _now(self) -> Reading:
        """Return the current reading, which is valid until the index is read again."""
        with self._lock:
            if self._reading is None:
                self._reading = self._look()
            return self._reading

    def _look(self) -> Reading:
        """Resolve the address now; the commit that was read last is not read again."""
        try:
            found = self._repository.resolve()
        except NotFoundError as error:
            if not self.writable or error.code != "NO_REGISTRY":
                raise
            return Reading(None, "branch" if self._repository.revision == MAIN else "other", None)
        if self._reading is not None and self._reading.commit == found.commit:
            return self._reading
        try:
            index = self._repository.read(INDEX, commit=found.commit, limit=MAX_INDEX)
        except NotFoundError as error:
            if error.code != "NO_FILE":
                raise
            return Reading(found.commit, found.kind, None)
        return Reading(found.commit, found.kind, index)

    def _files(self, reading: Reading) -> dict[str, Entry]:
        """List every file at a commit, with one request per commit."""
        if reading.commit is None:
            return {}
        listed = self._listed
        if listed is None or listed[0] != reading.commit:
            listed = self._listed = reading.commit, self._repository.tree(reading.commit)
        return listed[1]

    def _writable(self) -> Reading:
        """Return the current reading, or raise if the address cannot be written to."""
        remedy = "Name another registry as the target."
        if self.writable:
            reading = self._now()
            if reading.kind == "branch":
                return reading
            remedy = "Only a branch can be written to: leave @revision out, or name a branch."
        raise PolicyError("read-only registry", code="READ_ONLY", where=self.url, remedy=remedy)

    def _settle_staged(self, head: Reading) -> None:
        """Drop staged keys that another writer has put meanwhile; of two signatures of a release the first stays.

        Raises:
            ConflictError: key already in use with other content (``VERSION_EXISTS``).
        """
        there = self._files(head) if self._staged else {}
        for key in [key for key in self._staged if key in there]:
            staged = self._staged.pop(key)
            if not key.startswith(f"{store_keys.SIGNATURES}/"):
                self._refuse_other(key, there[key], staged)

    def _drop_signatures(self, data: bytes) -> None:
        """Drop staged signatures of indexes that other writers overtook."""
        signed = {sha256(data), *(pin.sha256 for pin in _pins(_parsed(data)).values())}
        keys = {store_keys.signature(digest) for digest in signed}
        for key in [key for key in self._staged if key.startswith(f"{store_keys.SIGNATURES}/") and key not in keys]:
            del self._staged[key]

    def _refuse_other(self, key: str, present: Entry, data: Data) -> None:
        if not present.holds(data):
            raise taken(key, expected=sha256(data), found=present.digest, url=self.url)

    def _derived(self, head: Reading, data: bytes) -> dict[str, bytes]:
        """Return the files derived from an index: bundle and card. An invalid index is not refused here, and has none."""
        index = _parsed(data)
        if index is None:
            return {}
        pins = _pins(index)
        self._manifests = self._together(head, pins)
        for key in pins.keys() - self._manifests.keys():
            with contextlib.suppress(BatteriesError):  # a bundle without it costs its readers one more request
                self._manifests[key] = read_pinned(self, key, pins[key]).data
        card, packed = registry_card(index, self.url).encode(), manifest_bundle.pack(self._manifests)
        return {CARD: card} | ({manifest_bundle.BUNDLE: packed} if len(packed) <= manifest_bundle.MAX_BUNDLE else {})

    def _together(self, reading: Reading, pins: Mapping[str, Pin]) -> dict[str, bytes]:
        """Return the manifests in memory or in the bundle, fetched in one request, that match their pins."""
        held = {**self._manifests, **self._staged}
        limit = manifest_bundle.size({key: pin.size for key, pin in reading.pins.items()})
        if pins.keys() - held.keys() and reading.commit is not None and limit <= manifest_bundle.MAX_BUNDLE:
            with contextlib.suppress(NotFoundError, FormatError):
                held |= manifest_bundle.unpack(
                    self._repository.read(manifest_bundle.BUNDLE, commit=reading.commit, limit=limit)
                )
        return {key: held[key] for key, pin in pins.items() if key in held and Pin.of(held[key]) == pin}

    def _commit(self, head: Reading, files: Mapping[str, bytes]) -> str:
        """Commit on top of the head that was compared, or not at all.

        A commit whose response was lost, or that was sent twice, is recognised on the branch by its index.
        """
        if head.commit is None:
            what = "new repository not available yet"
            raise TransportError(what, code="UNAVAILABLE", where=self.url, remedy="Run the same command again.", retryable=True)
        try:
            return self._repository.commit(files, parent=head.commit, message=_message(self._staged))
        except (ConflictError, TransportError) as error:
            with contextlib.suppress(TransportError):
                now = self._look()
                if now.index == files[INDEX] and now.commit is not None:
                    self._listed = None  # others may have written on top of it
                    return now.commit
                refuse_moved(None if head.index is None else sha256(head.index), now.index, self.url)
            raise error


def _parsed(data: bytes) -> Index | None:
    with contextlib.suppress(BatteriesError):
        return Index.from_bytes(data, where=INDEX)
    return None


def _pins(index: Index | None) -> dict[str, Pin]:
    """Return the pins of the manifests that an index lists, by key."""
    everything = () if index is None else index.everything()
    return {store_keys.manifest(path, version): release.manifest for path, version, release in everything}


def _message(staged: Mapping[str, bytes]) -> str:
    """Return the first line of a commit message."""
    folders = (store_keys.BLOBS, store_keys.ATTESTATIONS, store_keys.SIGNATURES, store_keys.TRUST)
    versions = sorted(key.removesuffix(store_keys.JSON) for key in staged if not key.startswith(folders))
    more = f" and {len(versions) - 3} more" if len(versions) > 3 else ""
    return f"Publish {', '.join(versions[:3])}{more}" if versions else "Update the index"
