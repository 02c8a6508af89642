"""Signed registries of tiny cells, in a folder and on the local Hub, and what one who can write to them may do."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest

from batteries.io.canonical_json import sha256
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.catalog.release import Attested, Pin, Release
from registry.stores.settings import config_file
from registry.stores.store import INDEX
from registry.transfer.remarks import attest
from registry.trust import index_signatures, roots, signed_documents
from registry.trust.signing import Signing
from tests.support.cells import attestation, publish, tiny
from tests.support.hubserver import QUIET

CELL = tiny()
REPO = "local/signed"


@functools.cache
def signer(name):
    """A signer of its own for each name."""
    from securesystemslib.signer import CryptoSigner

    return CryptoSigner.generate_ed25519()


def key(name):
    """The id of a signer's key."""
    return signer(name).public_key.keyid


def signing(*names, days=30):
    """Signers by name, whose signature of an index is valid for so many days."""
    return Signing(tuple(map(signer, names)), signed_documents.in_days(days))


def pin(address, *names):
    """Pin keys in the configuration file, and nothing else."""
    ids = ", ".join(f'"{key(name)}"' for name in names)
    path = config_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[trusted]\n{json.dumps(str(address))} = [{ids}]\n")


class Folder:
    """A registry in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = str(path)

    def files(self) -> dict[str, bytes]:
        paths = (path for path in self.path.rglob("*") if path.is_file() and path.name != "index.lock")
        return {path.relative_to(self.path).as_posix(): path.read_bytes() for path in paths}

    def write(self, files) -> None:
        """Write files as they are; None removes one."""
        for name, data in files.items():
            path = self.path / name
            path.unlink(missing_ok=True)
            if data is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)


class OnHub:
    """A registry on the local Hub."""

    address = f"hf://{REPO}"

    def __init__(self, hub) -> None:
        self.hub = hub

    def files(self) -> dict[str, bytes]:
        return dict(self.hub.head(REPO).files)

    def write(self, files) -> None:
        self.hub.write(REPO, files)


QUIETLY = [  # marks of tests that read registries without a pin, on the local Hub too
    pytest.mark.filterwarnings("ignore::registry.stores.signed.trust_guard.SignerWarning"),
    pytest.mark.filterwarnings(QUIET),
]
PLACES = pytest.mark.parametrize("place", ["folder", "hub"], indirect=True)


def made(request, tmp_path):
    """The place that a test asks for."""
    return Folder(tmp_path / "signed") if request.param == "folder" else OnHub(request.getfixturevalue("hub"))


def fill(place, *names, days=30) -> None:
    """Publish two versions of a cell and a verdict, in three signed changes."""
    publish(CELL, place.address, signing(*names, days=days))
    attest(attestation(CELL, verdict="walked back"), place.address, signing=signing(*names, days=days))
    publish(tiny(version="1.1.0", seed=1), place.address, signing(*names, days=days))


def index_of(place) -> Index:
    return Index.from_bytes(place.files()[INDEX], where="")


def rewritten(place, change) -> dict[str, bytes]:
    """The files of an index that was changed, with every digest right."""
    return {INDEX: change(index_of(place)).sealed()}


def forged_release(place) -> dict[str, bytes]:
    """A version that its publisher never made, and the index that lists it."""
    cell = tiny(version="9.0.0", seed=9)
    release = Release.of(cell.manifest)
    return {
        store_keys.blob(cell.digest): cell.to_bytes(),
        store_keys.manifest(cell.name, cell.version): cell.manifest.to_bytes(),
        **rewritten(place, lambda index: index.with_release(cell.name, cell.version, release)),
    }


def forged_verdict(place) -> dict[str, bytes]:
    """A verdict that nobody found, and the index that lists it."""
    data = attestation(CELL, verdict="viable", seed=3).to_bytes()
    found = Pin.of(data)
    attested = Attested(sha256=found.sha256, size=found.size, verdict="viable")
    return {
        store_keys.attestation(CELL.digest, found.sha256): data,
        **rewritten(place, lambda index: index.with_attestation(CELL.digest, "quick-1", attested)),
    }


def signed(index: bytes, *names, root=1, days=30) -> dict[str, bytes]:
    """The signature of an index, by anyone."""
    number = Index.from_bytes(index, where="").number
    found = index_signatures.sign_index(Pin.of(index), number, root, map(signer, names), signed_documents.in_days(days))
    return {store_keys.signature(sha256(index)): found}


def root_of(*names, days=300) -> dict[str, bytes]:
    """A first document of keys."""
    return {store_keys.root(1): roots.first_root(list(map(signer, names)), signed_documents.in_days(days))}


def without(place, *folders) -> dict[str, None]:
    """Take all files of some folders away."""
    return {name: None for name in place.files() if name.startswith(folders)}
