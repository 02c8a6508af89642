"""The table of the kinds of artifact: a row each. No torch here.

A kind is a folder with a subclass of :class:`composer.artifact.form.ArtifactForm`, and a row here. Composer's verbs, the
registry and the command read this table, the registry when it is first imported.
"""

from __future__ import annotations

from typing import Any

from batteries.cell.artifact_kinds import name_in
from batteries.errors import InputError
from composer.artifact.form import ArtifactForm
from composer.artifact.maps.form import MapsForm
from composer.artifact.model.form import ModelForm

FORMS: dict[str, ArtifactForm[Any]] = {form.kind.name: form for form in (ModelForm(), MapsForm())}


def form_in(data: bytes | memoryview) -> ArtifactForm[Any] | None:
    """Kind that the first bytes of a file name; None where they name none of the table, as a cell's do not."""
    return FORMS.get(name_in(data) or "")


def form_of(value: object) -> ArtifactForm[Any]:
    """Kind of a value in memory.

    Raises:
        InputError: of none (``MODEL``).
    """
    for form in FORMS.values():
        if form.holds(value):
            return form
    expected = " or ".join(form.takes for form in FORMS.values())
    remedy = "Give what composer.wire, composer.compose or composer.align returned."
    raise InputError("nothing that can be saved", code="MODEL", expected=expected, found=type(value).__name__, remedy=remedy)
