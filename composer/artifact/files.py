"""The verbs of artifacts: save, load, read, pack. Each goes by the type of the value, or by the first bytes of the file."""

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
    """Write a model, maps, or a value of any other kind, whole or not at all. The same value gives the same bytes everywhere.

    Args:
        value: A ``Wired`` or a ``Container``, whose weights are saved as the float32 that cells are; a ``Consensus`` or an
            ``Alignment`` with both ends by digest, as :func:`composer.align` makes them.
        path: Ends in ``.safetensors``.
        lock: Version and digests of the cells by name, as ``container.lock`` has them, of more cells if need be: maps need it,
            a model has its own.

    Returns:
        Size and digests of the file.

    Raises:
        InputError: a value of no kind (``MODEL``); no path (``BAD_PATH``), or one that does not end so (``SUFFIX``); no lock,
            one too many, or one without a cell (``LOCK``); parts that do not fit (``PARTS``); cells with names that no file
            takes (``CELLS``); maps whose ends are not known (``NO_ENDS``).
        IntegrityError: weights that were changed (``CONTAINER_CHANGED``), or maps that were fitted on others (``END_CHANGED``).
        PolicyError: values that are not finite (``NON_FINITE``), or more than a file may have (``MODEL_TOO_LARGE``,
            ``MAPS_TOO_LARGE``).
        StoreError: no space, no permission.

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
    """Read what :func:`save` wrote; every byte is compared with its digests.

    Args:
        path: The file.
        seal: The seal that it must have, where one was promised.

    Returns:
        What was saved. A model is in the mode of evaluation, and its weights are the file: nobody may write into that while the
        model is used, though it may be replaced or removed. A model that is cells side by side and nothing else is a
        ``Container``. Maps have what they were fitted on in their ``pairing``.

    Raises:
        InputError: no path.
        NotFoundError: no such file.
        FormatError: a file of no kind (``NOT_A_MODEL``), not well-formed, or of parts that do not go together.
        IntegrityError: a byte that is not the one that was saved (``SEAL``, ``BLOCK_DIGEST``), or another file than was
            promised (``OTHER_SEAL``).
        PolicyError: numbers that no fit makes (``NON_FINITE``, ``NOT_A_ROTATION``, ``NOT_A_FRAME``).
        StoreError: the disk would not give it.

    >>> import composer, registry
    >>> file = composer.save(composer.compose(registry.load("low/fresnel-64")), "model.safetensors")
    >>> model = composer.load("model.safetensors")
    >>> model.names
    ('low/fresnel-64',)
    """
    path = path_of(path)
    return _form_in(path).load(path, seal=seal)


def read(path: str | Path) -> ArtifactDocument:
    """What a file says of itself; its tensors are not looked at.

    Raises:
        BatteriesError: as :func:`load`, but for what only the tensors tell.

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
    """Write what :func:`save` writes, and beside it, in ``NAME.json``, its manifest: what publishing takes.

    Args:
        value: As of :func:`save`.
        path: As of :func:`save`.
        label: What a person says of it.
        lock: As of :func:`save`.

    Raises:
        InputError: no label (``LABEL``).
        PolicyError: a manifest that is too large (``MANIFEST_TOO_LARGE``).
        BatteriesError: as :func:`save`.

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
    """Kind that a file names; a file of none is to be refused as no model."""
    return form_in(atomic_files.mapped(path, limit=MAX_BLOB, links=True)) or next(iter(FORMS.values()))


def _prepared(form: ArtifactForm[Any], value: Any, lock: CellOrigins | None) -> Prepared[Any]:
    if (lock is not None) != form.needs_lock:
        expected = "lock=container.lock" if form.needs_lock else "no lock: it has its own"
        raise InputError(f"not a lock for {form.kind.words}", code="LOCK", expected=expected, found=repr(lock)[:80])
    try:
        return packing.prepared(form.document(), *form.take_apart(value, lock))
    except ValidationError as error:
        raise packing.refusal(form.kind, error) from error
