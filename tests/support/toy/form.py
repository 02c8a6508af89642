"""Notes as a kind: everything that a fourth kind has to say."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from batteries.cell.artifact_kinds import ArtifactKind
from batteries.cell.manifest import Positive, Text
from composer.artifact.form import ArtifactDocument, ArtifactForm, Column
from composer.artifact.manifest import PackedManifest, PackedSummary

NOTE = ArtifactKind("note", "a note about cells", 2**20, "1.3")


@dataclass(frozen=True)
class Note:
    """What a note is in memory."""

    words: str
    numbers: tuple[float, ...]


class NoteSummary(PackedSummary):
    cells: Positive
    length: Positive


class NoteManifest(PackedManifest):
    KIND = NOTE

    kind: Literal["note"] = "note"
    words: Text
    length: Positive

    @property
    def summary(self):
        return NoteSummary(cells=self.cells, length=self.length, license=self.identity.license)


class SavedNote(ArtifactDocument):
    KIND = NOTE
    SCHEMA_VERSION: ClassVar[str] = "1.0"

    schema_version: Literal["1.0"] = "1.0"
    words: Text
    length: Annotated[int, Field(gt=0, le=1000)]
    about: dict[str, dict[str, str]]

    @property
    def lock(self):
        return self.about

    def facts(self):
        return {"words": self.words, "length": self.length}

    def tensors(self):
        yield "numbers", "F64", (self.length,)


class NoteForm(ArtifactForm[SavedNote]):
    manifest = NoteManifest
    summary = NoteSummary
    takes = "a Note"
    needs_lock = True
    columns = (
        Column("cells", lambda summary: str(summary.cells)),
        Column("length", lambda summary: str(summary.length), on_card=False),
    )

    def document(self):
        return SavedNote

    def holds(self, value):
        return isinstance(value, Note)

    def take_apart(self, value, lock):
        fields = {"words": value.words, "length": len(value.numbers), "about": lock}
        return fields, {"numbers": np.array(value.numbers, dtype="<f8")}

    def put_together(self, opened):
        return Note(opened.document.words, tuple(opened.array("numbers").tolist()))
