"""Preparation and writing of a sealed file and its manifest; both are complete before either is written. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from pydantic import ValidationError

from batteries.cell.artifact_kinds import ArtifactKind
from batteries.cell.cell import SUFFIX
from batteries.cell.manifest import MAX_MANIFEST
from batteries.errors import BatteriesError, InputError, PolicyError
from batteries.io import atomic_files, file_pair
from batteries.io.atomic_files import Data
from batteries.io.canonical_json import fields_of
from composer.artifact.manifest import PackedFile, PackedLabel, PackedManifest
from composer.sealed import file_format
from composer.sealed.file_format import Said
from composer.sealed.reader import path_of

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Prepared(Generic[Said]):
    """File that is ready to be written.

    Attributes:
        document: Document of the file.
        file: Size and digests of the file.
        parts: Bytes of the file, in consecutive parts.
    """

    document: Said
    file: PackedFile
    parts: list[Data]


def path_for(kind: ArtifactKind, path: str | Path) -> Path:
    """Check the path for a file of a kind.

    Raises:
        InputError: not a path (``BAD_PATH``), or a path that does not end in ``.safetensors`` (``SUFFIX``).
    """
    path = path_of(path)
    if path.suffix != SUFFIX:
        raise InputError(f"invalid path for {kind.words}", code="SUFFIX", expected=f"a name ending in {SUFFIX}", found=path)
    return path


def checked_label(label: PackedLabel) -> PackedLabel:
    """Return a label unchanged if it is one.

    Raises:
        InputError: not a label (``LABEL``).
    """
    if not isinstance(label, PackedLabel):
        raise InputError("not a label", code="LABEL", expected="a composer.artifact.PackedLabel", found=repr(label)[:80])
    return label


def prepared(form: type[Said], fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Prepared[Said]:
    """Prepare a file with these fields and arrays.

    Raises:
        BatteriesError: as in :func:`composer.sealed.file_format.write`.
    """
    document, parts = file_format.write(form, fields, arrays)
    whole = sha256()
    for part in parts:
        whole.update(part)
    file = PackedFile(size=sum(map(len, parts)), sha256=whole.hexdigest(), seal=document.seal)
    return Prepared(document, file, parts)


def refusal(kind: ArtifactKind, error: ValidationError) -> BatteriesError:
    """Convert a document's validation error."""
    if all(row["type"] == "finite_number" for row in error.errors()):
        return PolicyError(f"{kind.words} with values not finite", code="NON_FINITE", found=fields_of(error))
    return InputError(f"invalid parts for {kind.words}", code="PARTS", found=fields_of(error))


def put(path: Path, file: Prepared[Said], manifest: PackedManifest | None = None) -> None:
    """Write a file, and its manifest, if any, as ``NAME.json`` in the same folder, in place of a pair of that name.

    Raises:
        PolicyError: a manifest that is too large (``MANIFEST_TOO_LARGE``), in which case nothing is written.
        StoreError: no space or no permission.
    """
    data = b"" if manifest is None else manifest.to_bytes()
    if len(data) > MAX_MANIFEST:
        raise PolicyError("manifest too large", code="MANIFEST_TOO_LARGE", expected=MAX_MANIFEST, found=len(data))
    if data:
        file_pair.write(path, file.parts, data)
    else:
        atomic_files.replace(path, *file.parts)
