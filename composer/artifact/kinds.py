"""Table of the kinds of artifact. Imports no torch.

A kind is a folder with a subclass of :class:`composer.artifact.form.ArtifactForm`, and a row here. Composer's functions, the
registry and the command line read this table; the registry does on import.
"""

from __future__ import annotations

from typing import Any

from batteries.cell.artifact_kinds import name_in
from batteries.errors import InputError
from composer.artifact.form import ArtifactForm
from composer.artifact.maps.form import MapsForm
from composer.artifact.model.form import ModelForm
from composer.artifact.vae.form import VaeForm

FORMS: dict[str, ArtifactForm[Any]] = {form.kind.name: form for form in (ModelForm(), MapsForm(), VaeForm())}


def form_in(data: bytes | memoryview) -> ArtifactForm[Any] | None:
    """Return the kind named by the first bytes of a file; None for a file of no kind of the table, such as a cell."""
    return FORMS.get(name_in(data) or "")


def form_of(value: object) -> ArtifactForm[Any]:
    """Return the kind of a value in memory.

    Raises:
        InputError: a value of no kind (``MODEL``).
    """
    for form in FORMS.values():
        if form.holds(value):
            return form
    expected = " or ".join(form.takes for form in FORMS.values())
    remedy = "Pass the result of composer.wire, composer.compose, composer.align or BatteryVAE.from_cells."
    raise InputError("unsupported type of artifact", code="MODEL", expected=expected, found=type(value).__name__, remedy=remedy)
