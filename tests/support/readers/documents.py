"""Readers of JSON documents: what is published, and what is kept on this machine."""

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from batteries.ablation import run_report
from batteries.cell.manifest import Manifest, Measured
from batteries.errors import NotFoundError
from batteries.io import canonical_json
from batteries.kept_documents import KeptDocuments
from composer.artifact import MapsManifest, ModelManifest
from composer.artifact.vae.manifest import VaeManifest
from registry.catalog.attestation import Attestation
from registry.catalog.figures import DoseFigure
from registry.catalog.index import Index
from registry.catalog.reference import Reference
from registry.catalog.release import PackedRelease, Pin
from registry.site import site_folder
from registry.stores.cache import Cache
from registry.stores.memory import MemoryStore
from registry.stores.rollback_guard import FOLDER, Memory, Note
from registry.stores.snapshot import open_snapshot
from registry.transfer.lockfile import Lock
from registry.transfer.remarks import attest
from tests.support import ablations
from tests.support.cells import attestation, publish, tiny
from tests.support.readers.reader import Reader, dumped, plain, resealed
from tests.support.readers.sealed_files import MANIFESTS


def of_document(kind: Any, text: bytes) -> Reader:
    """A reader of a kind that reads bytes and writes them again."""
    return Reader(text, plain, dumped, lambda data: kind.from_bytes(data, where="a mutant").to_bytes())


@cache
def a_registry() -> MemoryStore:
    store = MemoryStore()
    publish(tiny(), store)
    publish(tiny(version="1.1.0", seed=1), store)
    publish(tiny("other", seed=2), store)
    attest(attestation(tiny()), store)
    return store


def index() -> Reader:
    return of_index(a_registry().read_index())


def index_of_models() -> Reader:
    release = PackedRelease.of(ModelManifest.from_bytes(MANIFESTS["model"], where="x"))
    return of_index(
        Index.from_bytes(a_registry().read_index(), where="x").with_release("model/least", "1.0.0", release).sealed()
    )


def of_index(text: bytes) -> Reader:
    return Reader(text, plain, resealed("sha256"), lambda data: Index.from_bytes(data, where="a mutant").sealed())


def lock() -> Reader:
    snapshot = open_snapshot(a_registry())
    made = Lock.of([snapshot.find(Reference.parse(name)) for name in ("high/tiny", "high/other")])

    def read(data: bytes) -> bytes:
        """The layout of a lock is free: its own bytes, where it says the same."""
        found = Lock.from_bytes(data, where="a mutant")
        return data if json.loads(found.to_bytes()) == json.loads(data) else found.to_bytes()

    return Reader(dumped(made.model_dump(mode="json")), plain, dumped, read)


def certificate() -> Reader:
    """An attestation of a protocol of its own, with a dose."""
    dose = DoseFigure(
        subject="cell",
        rate=1e-4,
        seed=0,
        score=0.5,
        weight_change=0.1,
        cv=None,
        axial_cv=None,
        rank=(1.0, 0.9, 1.1),
        retention=1.0,
        kept=0.9,
        moments=(),
    )
    made = attestation(tiny(), protocol="holding-1", verdict="holds").model_copy(update={"doses": (dose,)})
    return of_document(Attestation, made.to_bytes())


@cache
def folder() -> Path:
    return Path(tempfile.mkdtemp())


def in_a_place(path: Path, read: Callable[[], object]) -> Callable[[bytes], bytes]:
    """Read what a file of this machine has; that it can be read is all that is asked."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def of(data: bytes) -> bytes:
        path.write_bytes(data)
        read()
        return data

    return of


def site_pages() -> Reader:
    page = {"sha256": "0" * 64, "made_from": "1" * 64}
    state = {"schema_version": "1.0", "pages": {"index.html": page, "high/tiny/1.0.0.html": page}}
    path = folder() / "site"
    return Reader(dumped(state), plain, dumped, in_a_place(path / site_folder.STATE, lambda: site_folder._state_of(path)))


def note() -> Reader:
    """The note of the last index of a registry: one that cannot be read is put aside."""
    memory, url = Memory(Cache(folder() / "cache")), "hf://lab/cells"
    text = Note(url=url, number=7, index=Pin(sha256="2" * 64, size=900), fetched=1.7e9).to_bytes()

    def read() -> None:
        if memory.note(url) is None:
            raise NotFoundError("put aside", code="PUT_ASIDE")

    path = folder() / "cache" / FOLDER / f"{canonical_json.sha256(url.encode())}.json"
    return Reader(text, plain, dumped, in_a_place(path, read))


def kept_figures() -> Reader:
    """Figures kept by an interrupted command: those that cannot be read are computed again."""
    kept, key, made = KeptDocuments(folder() / "kept"), {"of": "a test"}, tiny().manifest.own
    kept.recall(Measured, key, lambda: made)
    (path,) = (folder() / "kept").iterdir()

    def again() -> Measured:
        raise NotFoundError("computed again", code="COMPUTED_AGAIN")

    return Reader(path.read_bytes(), plain, dumped, in_a_place(path, lambda: kept.recall(Measured, key, again)))


def report() -> Reader:
    path = folder() / "report.json"
    return Reader(ablations.report().to_bytes(), plain, dumped, in_a_place(path, lambda: run_report.read(path)))


DOCUMENTS: dict[str, Callable[[], Reader]] = {
    "index": index,
    "index of models": index_of_models,
    "manifest": lambda: of_document(Manifest, tiny().manifest.to_bytes()),
    "model manifest": lambda: of_document(ModelManifest, MANIFESTS["model"]),
    "maps manifest": lambda: of_document(MapsManifest, MANIFESTS["maps"]),
    "vae manifest": lambda: of_document(VaeManifest, MANIFESTS["vae"]),
    "lock": lock,
    "attestation": lambda: of_document(Attestation, attestation(tiny()).to_bytes()),
    "holding certificate": certificate,
    "site's list of pages": site_pages,
    "note of a registry": note,
    "kept figures": kept_figures,
    "report of a run": report,
}
