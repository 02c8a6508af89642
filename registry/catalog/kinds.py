"""Kinds of artifact in a registry: the cell, and the rows of :data:`composer.artifact.kinds.FORMS`."""

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
FOLDERS = (*BANDS, *FORMS)  # what may stand before a name: of a cell its band


def kind_of_folder(folder: str) -> ArtifactKind | None:
    """Kind of what is in a band, or in the folder of another kind.

    >>> [kind_of_folder(folder) for folder in ("low", "model", "blue")] == [CELL, KINDS["model"], None]
    True
    """
    return CELL if folder in BANDS else KINDS[folder] if folder in FORMS else None


def kind_of_path(text: str) -> ArtifactKind | None:
    """Kind of ``band/name``, ``model/name`` and so on; None for any other text.

    >>> kind_of_path("model/trio").plural, kind_of_path("low/fresnel-256").plural, kind_of_path("blue/fresnel-256")
    ('models', 'cells', None)
    """
    folder, _, name = text.partition("/")
    return kind_of_folder(folder) if is_name(name) else None


def with_tables(field: Callable[[ArtifactForm[Any]], Any]) -> Callable[[type[AnyDocument]], type[AnyDocument]]:
    """Decorator of documents: one more field for each kind beside the cell, called as a table of it.

    Args:
        field: From a kind to a field, as :func:`pydantic.create_model` takes it.
    """

    def widened(document: type[AnyDocument]) -> type[AnyDocument]:
        fields = {form.kind.plural: field(form) for form in FORMS.values()}
        return create_model(
            document.__name__, __base__=document, __module__=document.__module__, __doc__=document.__doc__, **fields
        )

    return widened
