"""Kinds of artifact in a registry: the cell, and the kinds in :data:`composer.artifact.kinds.FORMS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import create_model

from batteries.cell.artifact_kinds import ArtifactKind
from batteries.cell.manifest import BANDS, is_name
from batteries.cell.weights_file import MAX_CELL
from batteries.io.canonical_json import AnyDocument
from composer.artifact.form import ArtifactForm
from composer.artifact.kinds import FORMS

CELL = ArtifactKind("cell", "a cell", MAX_CELL, "1.0")
KINDS = {kind.name: kind for kind in (CELL, *(form.kind for form in FORMS.values()))}
FOLDERS = (*BANDS, *FORMS)  # first part of a path: the band of a cell, otherwise the kind


def kind_of_folder(folder: str) -> ArtifactKind | None:
    """Return the kind of the artifacts in a folder; None if it is neither a band nor the name of a kind.

    >>> [kind_of_folder(folder) for folder in ("low", "model", "blue")] == [CELL, KINDS["model"], None]
    True
    """
    return CELL if folder in BANDS else KINDS[folder] if folder in FORMS else None


def kind_of_path(text: str) -> ArtifactKind | None:
    """Return the kind of ``band/name``, ``model/name`` and so on; None for any other text.

    >>> kind_of_path("model/trio").plural, kind_of_path("low/fresnel-256").plural, kind_of_path("blue/fresnel-256")
    ('models', 'cells', None)
    """
    folder, _, name = text.partition("/")
    return kind_of_folder(folder) if is_name(name) else None


def with_tables(field: Callable[[ArtifactForm[Any]], Any]) -> Callable[[type[AnyDocument]], type[AnyDocument]]:
    """Return a decorator that adds one table to a document for each kind other than cells, named by the kind's plural.

    Args:
        field: Function from a kind's form to a field definition of :func:`pydantic.create_model`.
    """

    def widened(document: type[AnyDocument]) -> type[AnyDocument]:
        fields = {form.kind.plural: field(form) for form in FORMS.values()}
        return create_model(
            document.__name__, __base__=document, __module__=document.__module__, __doc__=document.__doc__, **fields
        )

    return widened
