"""Functions save, load, read and pack for artifacts of all kinds, found by a value's type or a file's first bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from batteries.cell.manifest import MAX_BLOB
from batteries.errors import InputError
from batteries.io import atomic_files
from composer.artifact import packing
from composer.artifact.form import ArtifactDocument, ArtifactForm, CellOrigins
from composer.artifact.kinds import FORMS, form_in, form_of
from composer.artifact.manifest import PackedFile, PackedLabel, PackedManifest
from composer.artifact.packing import Prepared
from composer.sealed.reader import path_of, read_document


def save(value: Any, path: str | Path, *, lock: CellOrigins | None = None) -> PackedFile:
    """Write a model, maps or a value of another kind atomically. Equal values give equal bytes on all platforms.

    Args:
        value: Model (``Wired`` or ``Container``), whose weights are saved as float32, or maps (``Consensus`` or ``Alignment``)
            with both ends by digest, as made by :func:`composer.align`.
        path: Path ending in ``.safetensors``.
        lock: Version and digests of at least the cells of maps, by name, as in ``container.lock``; only for maps, since a
            model has its own.

    Returns:
        Size and digests of the file.

    Raises:
        InputError: a value of no kind (``MODEL``); not a path (``BAD_PATH``), or another suffix (``SUFFIX``); a missing or
            superfluous lock, or a lock that lacks a cell (``LOCK``); invalid parts (``PARTS``); cell names that a file cannot
            hold (``CELLS``); maps with unknown ends (``NO_ENDS``).
        IntegrityError: changed weights (``CONTAINER_CHANGED``), or maps fitted on other weights (``END_CHANGED``).
        PolicyError: values that are not finite (``NON_FINITE``), or a file too large (``MODEL_TOO_LARGE``,
            ``MAPS_TOO_LARGE``).
        StoreError: no space or no permission.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "high/fresnel-64"))
    >>> file = composer.save(model, "model.safetensors")
    >>> composer.load("model.safetensors", seal=file.seal).names
    ('low/fresnel-64', 'high/fresnel-64')
    """
    form = form_of(value)
    path = packing.path_for(form.kind, path)
    made = _prepared(form, value, lock)
    packing.put(path, made)
    return made.file


def load(path: str | Path, *, seal: str | None = None) -> Any:
    """Load an artifact written by :func:`save`, and check every byte and every cell against its digests.

    Args:
        path: Path of the file.
        seal: Expected seal; if None, the file's own seal is trusted.

    Returns:
        Saved value. A model is in evaluation mode, and its weights are views of the file, which must not be modified while the
        model is in use, but may be replaced or removed. A model of cells side by side is a ``Container``. Maps have the
        digests of their ends and images in their ``pairing``.

    Raises:
        InputError: not a path (``BAD_PATH``).
        NotFoundError: no such file.
        FormatError: a file of no kind (``NOT_A_MODEL``), a malformed file, or incompatible parts.
        IntegrityError: changed bytes (``SEAL``, ``BLOCK_DIGEST``), a file with another seal than expected
            (``OTHER_SEAL``), or weights other than those of the cells in its lock (``TENSOR_DIGEST``).
        PolicyError: invalid numbers (``NON_FINITE``, ``NOT_A_ROTATION``, ``NOT_A_FRAME``).
        StoreError: a file that cannot be read.

    >>> import composer, registry
    >>> file = composer.save(composer.compose(registry.load("low/fresnel-64")), "model.safetensors")
    >>> model = composer.load("model.safetensors")
    >>> model.names
    ('low/fresnel-64',)
    """
    path = path_of(path)
    return _form_in(path).load(path, seal=seal)


def read(path: str | Path) -> ArtifactDocument:
    """Read the document of a file, without checking its tensors.

    Raises:
        BatteriesError: as in :func:`load`, except for faults in the tensors.

    >>> import composer, registry
    >>> file = composer.save(composer.compose(registry.load("low/fresnel-64")), "model.safetensors")
    >>> document = composer.read("model.safetensors")
    >>> document.parameters, document.seal == file.seal
    (250211, True)
    """
    path = path_of(path)
    form = _form_in(path)
    data = atomic_files.mapped(path, limit=form.kind.limit, links=True)
    document: ArtifactDocument = read_document(form.document(), data, where=path)
    return document


def pack(value: Any, path: str | Path, label: PackedLabel, *, lock: CellOrigins | None = None) -> PackedManifest:
    """Write an artifact as :func:`save` does, with its manifest as ``NAME.json`` in the same folder, for publishing.

    Args:
        value: Model or maps, see :func:`save`.
        path: Path ending in ``.safetensors``.
        label: Name, version, license and description.
        lock: Version and digests of the cells of maps, see :func:`save`.

    Raises:
        InputError: not a label (``LABEL``).
        PolicyError: a manifest that is too large (``MANIFEST_TOO_LARGE``).
        BatteriesError: as in :func:`save`.

    >>> import composer, registry
    >>> label = composer.artifact.PackedLabel(name="one", version="1.0.0", license="Apache-2.0", description="A test.")
    >>> manifest = composer.pack(composer.compose(registry.load("low/fresnel-64")), "one.safetensors", label)
    >>> manifest.path, manifest.cells
    ('model/one', 1)
    """
    form = form_of(value)
    path = packing.path_for(form.kind, path)
    label = packing.checked_label(label)
    made = _prepared(form, value, lock)
    manifest = form.describe(made.document, made.file, label)
    packing.put(path, made, manifest)
    return manifest


def _form_in(path: Path) -> ArtifactForm[Any]:
    """Return the kind of a file; for a file of no kind the first one, which will refuse it."""
    return form_in(atomic_files.mapped(path, limit=MAX_BLOB, links=True)) or next(iter(FORMS.values()))


def _prepared(form: ArtifactForm[Any], value: Any, lock: CellOrigins | None) -> Prepared[Any]:
    if (lock is not None) != form.needs_lock:
        expected = "lock=container.lock" if form.needs_lock else "no lock, since it has its own"
        raise InputError(f"invalid lock for {form.kind.words}", code="LOCK", expected=expected, found=repr(lock)[:80])
    try:
        return packing.prepared(form.document(), *form.take_apart(value, lock))
    except ValidationError as error:
        raise packing.refusal(form.kind, error) from error
