"""A cell: weights and manifest, read strictly from two files and written to the same bytes every time."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import batteries  # HubRepository imports an HTTP client, on first use
from batteries import short_repr
from batteries.cell import weights_file
from batteries.cell.manifest import MAX_MANIFEST, FileFacts, Manifest
from batteries.cell.model_card import CARD, cell_card
from batteries.cell.spec import CellSpec
from batteries.errors import IntegrityError, NotFoundError
from batteries.io import atomic_files, file_pair
from batteries.io.canonical_json import sha256
from batteries.io.verified import Verified, verify

if TYPE_CHECKING:
    import numpy as np

SUFFIX = ".safetensors"
WEIGHTS_FILE = "model.safetensors"  # names in a repository of one cell
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True)
class Origin:
    """Provenance of a pulled cell.

    Attributes:
        source: Address of the registry.
        index_number: Number of the index that listed the cell; None if a lock named its digests.
        age: Seconds since that index was fetched.
        verified: True if every byte was compared with its digest, which pulling always does.
        yanked: Reason why the version should not be used; None if no index says so.
    """

    source: str
    index_number: int | None
    age: float
    verified: bool = True
    yanked: str | None = None


@dataclass(frozen=True, eq=False)
class Cell:
    """Packaged cell. Make one with :meth:`from_bytes`, :meth:`read` or :func:`batteries.package`.

    Two cells are equal if their digests and weights are equal, whether or not their names are.

    Attributes:
        weights: Read-only float32 arrays by tensor name.
        manifest: Description of the cell.
        origin: Registry it was pulled from; None if it was not pulled.

    >>> import batteries, registry
    >>> cell = registry.load("low/fresnel-64")
    >>> cell.name, cell.spec.D
    ('low/fresnel-64', 16)
    >>> path = cell.write("cells")
    >>> batteries.Cell.read(path) == cell
    True
    """

    weights: Mapping[str, np.ndarray] = field(repr=False)
    manifest: Manifest
    origin: Origin | None = None

    def __repr__(self) -> str:
        yanked = ["yanked"] if self.origin is not None and self.origin.yanked is not None else []
        return short_repr.headed(self, *self.manifest.headline, *yanked)

    def _repr_html_(self) -> str:
        card: str = importlib.import_module("batteries.notebook").cell_card(self)  # it runs the cell, which takes the model
        return card

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cell):
            return NotImplemented
        return self.digest == other.digest and _are_equal(self.weights, other.weights)

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def spec(self) -> CellSpec:
        """Architecture."""
        return self.manifest.spec

    @property
    def name(self) -> str:
        """Reference without a version, ``band/name``."""
        return self.manifest.path

    @property
    def version(self) -> str:
        """Semantic version."""
        return self.manifest.identity.version

    @property
    def digest(self) -> str:
        """SHA-256 of the weights file, as pinned by a reference."""
        return self.manifest.file.sha256

    @classmethod
    def from_bytes(cls, blob: bytes | Verified[bytes], manifest: Manifest, *, where: object) -> Cell:
        """Check a weights file against its manifest, and read it.

        Args:
            blob: Contents of the weights file; the digest of a ``Verified`` is not computed again.
            manifest: Manifest of the cell.
            where: Name of the file in messages.

        Raises:
            IntegrityError: size or digest other than in the manifest.
            FormatError: not a strict cell file of the manifest's spec.
            PolicyError: non-finite values.
        """
        weights = weights_file.read(_checked(blob, manifest.file, where), manifest.spec, where=where)
        cell = cls(weights, manifest)
        cell.refuse_other_weights(where)
        return cell

    @classmethod
    def read(cls, path: str | Path) -> Cell:
        """Read ``NAME.safetensors`` with the manifest ``NAME.json`` beside it; either may be a symbolic link.

        Args:
            path: Weights file. The manifest of a file named ``model.safetensors`` may also be ``manifest.json``.

        Raises:
            NotFoundError: one of the two is missing.
            FormatError: a composed model (``A_MODEL``), or maps (``MAPS``).
            BatteriesError: any error of :meth:`from_bytes`.
        """
        path = Path(path)
        if path.suffix != SUFFIX:
            raise NotFoundError("not a cell file", code="NO_CELL", expected=f"a path ending in {SUFFIX}", found=path)
        try:
            return cls._read(path)
        except IntegrityError:  # of one pair the file, of another the manifest, if it was replaced in between
            return cls._read(path)

    @classmethod
    def _read(cls, path: Path) -> Cell:
        blob = atomic_files.read(path, limit=weights_file.MAX_CELL, links=True)
        weights_file.refuse_other_kind(blob, path)
        data, beside = _read_beside(path, blob)
        return cls.from_bytes(blob, Manifest.from_bytes(data, where=beside), where=path)

    @classmethod
    def from_pretrained(cls, repo_id_or_folder: str | Path, *, revision: str | None = None, token: str | None = None) -> Cell:
        """Read a cell from a repository of its own on the Hugging Face Hub, or from a folder of the same layout.

        Args:
            repo_id_or_folder: Repository name ``owner/repo``, or a folder; an existing folder takes precedence.
            revision: Branch, tag or commit, resolved once; ``main`` by default.
            token: Access token; by default the one that huggingface_hub finds.

        Raises:
            InputError: neither a folder nor ``owner/repo``.
            NotFoundError: no such repository or revision, or one of the two files is missing.
            TransportError: network failure.
            BatteriesError: any error of :meth:`from_bytes`.
        """
        folder = Path(repo_id_or_folder)
        with atomic_files.typed(folder):
            local = folder.is_dir()
        if local:
            read: Callable[..., bytes] = partial(_read_in, folder)
        else:
            read = batteries.HubRepository(str(repo_id_or_folder), revision=revision, token=token).reader()
        manifest = Manifest.from_bytes(read(MANIFEST_FILE, limit=MAX_MANIFEST), where=f"{MANIFEST_FILE} of {repo_id_or_folder}")
        blob = read(WEIGHTS_FILE, limit=min(manifest.file.size, weights_file.MAX_CELL))
        return cls.from_bytes(blob, manifest, where=f"{WEIGHTS_FILE} of {repo_id_or_folder}")

    def push_to_hub(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        commit_message: str | None = None,
        token: str | None = None,
        private: bool | None = None,
    ) -> str:
        """Upload the cell to a repository of its own on the Hugging Face Hub: weights, manifest and model card, in one commit.

        Args:
            repo_id: Repository name, ``owner/repo``; created if missing.
            revision: Branch to commit to; ``main`` by default.
            commit_message: Title of the commit; by default the cell's name and version.
            token: Access token; by default the one that huggingface_hub finds.
            private: Visibility of a repository created here; by default the owner's setting.

        Returns:
            Address of the commit.

        Raises:
            ConflictError: another commit reached the branch meanwhile (retryable).
            PolicyError: no permission to write.
            TransportError: network failure. Pushing again is safe: the same files make no second commit.
            BatteriesError: any error of :meth:`from_bytes`, for a cell that could not be read back.
        """
        blob, manifest = self.to_bytes(), self.manifest.to_bytes()
        Cell.from_bytes(blob, Manifest.from_bytes(manifest, where=self.name), where=self.name)
        contents = {WEIGHTS_FILE: blob, MANIFEST_FILE: manifest, CARD: cell_card(self.manifest, repo_id).encode()}
        repository = batteries.HubRepository(repo_id, revision=revision, token=token)
        commit = repository.push(contents, message=commit_message or f"{self.name}@{self.version}", private=private)
        return f"{repository.endpoint}/{repo_id}/commit/{commit}"

    def write(self, folder: str | Path) -> Path:
        """Write ``NAME.safetensors`` and ``NAME.json`` into a folder, in place of a pair of that name; return the first's path.

        The pair is the old one or the new one at every moment, also to :meth:`read` after the process was killed.

        Raises:
            StoreError: no space or no permission.
        """
        path = Path(folder) / f"{self.manifest.identity.name}{SUFFIX}"
        file_pair.write(path, [self.to_bytes()], self.manifest.to_bytes())
        return path

    def refuse_other_weights(self, where: object) -> None:
        """Refuse weights other than those of the manifest, as in a cell changed by ``dataclasses.replace``.

        Raises:
            IntegrityError: different digest of the tensors (``TENSOR_DIGEST``).
        """
        expected, found = self.manifest.file.tensor_digest, weights_file.tensor_digest(self.weights)
        if found != expected:
            remedy = "Different weights need a manifest of their own: batteries.package makes one."
            what = "tensor digest mismatch"
            raise IntegrityError(what, code="TENSOR_DIGEST", expected=expected, found=found, where=where, remedy=remedy)

    def to_bytes(self) -> bytes:
        """Return the bytes of the weights file."""
        return weights_file.write(self.weights)


def file_facts(blob: bytes, weights: Mapping[str, np.ndarray]) -> FileFacts:
    """Compute the manifest's facts about a weights file."""
    return FileFacts(size=len(blob), sha256=sha256(blob), tensor_digest=weights_file.tensor_digest(weights))


def _read_beside(path: Path, blob: bytes) -> tuple[bytes, Path]:
    """Read the manifest beside a weights file; return it with its path."""

    def fits(data: bytes) -> bool:
        return Manifest.from_bytes(data, where=path).file.sha256 == sha256(blob)

    with contextlib.suppress(NotFoundError):
        return file_pair.manifest_of(path, fits, limit=MAX_MANIFEST)
    if path.name == WEIGHTS_FILE:
        with contextlib.suppress(NotFoundError):
            place = path.with_name(MANIFEST_FILE)
            return atomic_files.read(place, limit=MAX_MANIFEST, links=True), place
    beside = path.with_suffix(".json")
    remedy = "Keep the two files together. Files of other trainers become cells by batteries adopt."
    raise NotFoundError("missing manifest of a cell file", code="NO_MANIFEST", expected=beside, remedy=remedy)


def _read_in(folder: Path, name: str, *, limit: int) -> bytes:
    return atomic_files.read(folder / name, limit=limit, links=True)


def _are_equal(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> bool:
    """Compare weights. Cells with equal digests differ here only if one was made with ``dataclasses.replace``."""
    if first is second:
        return True
    pairs = ((array, second[name]) for name, array in first.items() if name in second)
    return first.keys() == second.keys() and all(a is b or (a.shape == b.shape and bool((a == b).all())) for a, b in pairs)


def _checked(blob: bytes | Verified[bytes], facts: FileFacts, where: object) -> bytes:
    """Verify the bytes of a weights file against its facts, and return them."""
    if isinstance(blob, Verified) and (blob.sha256, len(blob.data)) == (facts.sha256, facts.size):
        return blob.data
    data = blob.data if isinstance(blob, Verified) else blob
    remedy = "The file was damaged; fetch it again."
    return verify(data, sha256=facts.sha256, size=facts.size, where=where, remedy=remedy).data
