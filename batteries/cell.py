"""A cell: a spec, its weights and its manifest, read strictly from two files and written to the same bytes every time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batteries import cellfile, files
from batteries.canonical import sha256
from batteries.errors import IntegrityError, NotFoundError
from batteries.manifest import MAX_MANIFEST, FileFacts, Manifest
from batteries.spec import CellSpec

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Cell:
    """A battery, packaged. Make one with :meth:`from_bytes`, :meth:`read` or :func:`batteries.package`.

    Attributes:
        weights: Read-only float32 arrays by tensor name.
        manifest: What the cell says of itself.
    """

    weights: Mapping[str, np.ndarray]
    manifest: Manifest

    @property
    def spec(self) -> CellSpec:
        """The architecture."""
        return self.manifest.spec

    @property
    def name(self) -> str:
        """``band/name``."""
        return self.manifest.path

    @property
    def version(self) -> str:
        """The semantic version."""
        return self.manifest.identity.version

    @property
    def digest(self) -> str:
        """SHA-256 of the weights' file: what a reference pins."""
        return self.manifest.file.sha256

    @classmethod
    def from_bytes(cls, blob: bytes, manifest: Manifest, *, where: object) -> Cell:
        """Check a blob against its manifest, and read it.

        Raises:
            IntegrityError: not the size or the digest that the manifest promises.
            FormatError: not a strict cell file of the manifest's spec.
            PolicyError: values that are not finite.
        """
        _check_bytes(blob, manifest.file, where)
        weights = cellfile.read(blob, manifest.spec, where=where)
        found = cellfile.tensor_digest(weights)
        if found != manifest.file.tensor_digest:
            raise IntegrityError(
                "other tensors", code="TENSOR_DIGEST", expected=manifest.file.tensor_digest, found=found, where=where
            )
        return cls(weights, manifest)

    @classmethod
    def read(cls, path: str | Path) -> Cell:
        """Read ``NAME.safetensors`` with the manifest ``NAME.json`` beside it.

        Raises:
            NotFoundError: one of the two is missing.
            BatteriesError: as :meth:`from_bytes`.
        """
        path = Path(path)
        if path.suffix != SUFFIX:
            raise NotFoundError("not a cell file", code="NO_CELL", expected=f"a path ending in {SUFFIX}", found=path)
        blob = files.read(path, limit=cellfile.MAX_CELL)
        beside = path.with_suffix(".json")
        if not beside.exists():
            raise NotFoundError(
                "a cell file without its manifest", code="NO_MANIFEST", expected=beside, remedy="Keep the two files together."
            )
        manifest = Manifest.from_bytes(files.read(beside, limit=MAX_MANIFEST), where=beside)
        return cls.from_bytes(blob, manifest, where=path)

    def write(self, folder: str | Path) -> Path:
        """Write ``NAME.safetensors`` and ``NAME.json`` into a folder, whole or not at all; returns the first.

        Raises:
            StoreError: no space, no permission.
        """
        path = Path(folder) / f"{self.manifest.identity.name}{SUFFIX}"
        files.replace(path, self.to_bytes())
        files.replace(path.with_suffix(".json"), self.manifest.to_bytes())
        return path

    def to_bytes(self) -> bytes:
        """The bytes of the weights' file."""
        return cellfile.write(self.weights)


def file_facts(blob: bytes, weights: Mapping[str, np.ndarray]) -> FileFacts:
    """What a manifest says of a weights' file."""
    return FileFacts(size=len(blob), sha256=sha256(blob), tensor_digest=cellfile.tensor_digest(weights))


def _check_bytes(blob: bytes, facts: FileFacts, where: object) -> None:
    if len(blob) != facts.size:
        raise IntegrityError("another size", code="SIZE_MISMATCH", expected=facts.size, found=len(blob), where=where)
    found = sha256(blob)
    if found != facts.sha256:
        raise IntegrityError(
            "other bytes",
            code="DIGEST_MISMATCH",
            expected=facts.sha256,
            found=found,
            where=where,
            remedy="The file was damaged; fetch it again.",
        )
