"""A sealed file and the manifest beside it, made whole before either is written. No torch here."""

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
from batteries.io import atomic_files
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
    """What is to be written.

    Attributes:
        document: What the file says.
        file: Its digests.
        parts: Its bytes, one part after the other.
    """

    document: Said
    file: PackedFile
    parts: list[Data]


def path_for(kind: ArtifactKind, path: str | Path) -> Path:
    """Where a file of a kind is to be.

    Raises:
        InputError: no path (``BAD_PATH``), or one that does not end in ``.safetensors`` (``SUFFIX``).
    """
    path = path_of(path)
    if path.suffix != SUFFIX:
        raise InputError(f"not a path for {kind.words}", code="SUFFIX", expected=f"one ending in {SUFFIX}", found=path)
    return path


def checked_label(label: PackedLabel) -> PackedLabel:
    """Label itself.

    Raises:
        InputError: none (``LABEL``).
    """
    if not isinstance(label, PackedLabel):
        raise InputError("not a label", code="LABEL", expected="a composer.artifact.PackedLabel", found=repr(label)[:80])
    return label


def prepared(form: type[Said], fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Prepared[Said]:
    """File that says these things.

    Raises:
        BatteriesError: as :func:`composer.sealed.file_format.write`.
    """
    document, parts = file_format.write(form, fields, arrays)
    whole = sha256()
    for part in parts:
        whole.update(part)
    file = PackedFile(size=sum(map(len, parts)), sha256=whole.hexdigest(), seal=document.seal)
    return Prepared(document, file, parts)


def refusal(kind: ArtifactKind, error: ValidationError) -> BatteriesError:
    """Why something cannot be what a document says."""
    if all(row["type"] == "finite_number" for row in error.errors()):
        return PolicyError(f"{kind.words} that cannot be saved", code="NON_FINITE", found=fields_of(error))
    return InputError(f"parts that do not fit {kind.words}", code="PARTS", found=fields_of(error))


def put(path: Path, file: Prepared[Said], manifest: PackedManifest | None = None) -> None:
    """Write a file, and its manifest beside it as ``NAME.json`` where there is one: each whole or not at all.

    Raises:
        PolicyError: a manifest that is too large (``MANIFEST_TOO_LARGE``); nothing is written then.
        StoreError: no space, no permission.
    """
    data = b"" if manifest is None else manifest.to_bytes()
    if len(data) > MAX_MANIFEST:
        raise PolicyError("a manifest too large", code="MANIFEST_TOO_LARGE", expected=MAX_MANIFEST, found=len(data))
    atomic_files.replace(path, *file.parts)
    if data:
        atomic_files.replace(path.with_suffix(".json"), data)
