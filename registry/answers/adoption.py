"""Answer of adopt for many checkpoints under ``--json``; its schema is exported to ``docs/schema``."""

from __future__ import annotations

from typing import Any, Literal

from batteries.cell.manifest import Positive
from batteries.cell.spec import CellSpec
from registry.answers.answer import Answer, Fault

State = Literal["adopted", "kept", "ready", "incomplete", "refused"]


class AdoptedFile(Answer):
    """A checkpoint of a shelf, or a bank of an array.

    Attributes:
        file: Path, or address on the Hub.
        bank: Entry of an array that has its weights, such as ``banks.3``; null for a file of one cell.
        state: ``adopted``, measured by this command; ``kept``, measured by an earlier one; ``refused``; in a dry run ``ready``
            or ``incomplete``.
        reference: ``band/name@version`` of its cell; in a dry run with ``{band}`` where measuring will tell it.
        path: Path of the cell.
        spec: Architecture; null if it is not known.
        reading: Sources of its function, a sentence each.
        missing: Options that measuring would need, in a dry run.
        seconds: Time that it took.
        error: Reason of a refusal.
    """

    file: str
    bank: str | None = None
    state: State
    reference: str | None = None
    path: str | None = None
    spec: CellSpec | None = None
    reading: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    seconds: float
    error: Fault | None = None

    @property
    def fields(self) -> tuple[str, str, str, str]:
        """Fields of a row: state, file, name of the cell, and its path, what is missing, or why it was refused."""
        name = self.file if self.bank is None else f"{self.file}:{self.bank}"
        missing = f"missing {', '.join(self.missing)}" if self.missing else ""
        spec = "" if self.path or self.spec is None else spec_words(self.spec)
        why = "; ".join(filter(None, (reason(self.error), missing, spec)))
        return self.state, name, self.reference or "", self.path or why


class AdoptedModel(Answer):
    """Model of the adopted cells of an array.

    Attributes:
        file: Path of the array, or its address on the Hub.
        state: ``composed`` or ``refused``.
        reference: ``model/name@version``.
        path: Path of the model; its manifest is beside it.
        banks: Number of banks of the array.
        cells: Number of cells of the model: of banks that were not refused.
        seconds: Time that it took.
        error: Reason of a refusal.
    """

    file: str
    state: Literal["composed", "refused"]
    reference: str | None = None
    path: str | None = None
    banks: Positive
    cells: Positive
    seconds: float
    error: Fault | None = None

    @property
    def fields(self) -> tuple[str, str, str, str]:
        """Fields of a row: state, file, name of the model, and its path, or why it was refused."""
        return self.state, self.file, self.reference or "", self.path or reason(self.error)


class AdoptAnswer(Answer):
    """Answer of ``batteries adopt`` for more than one cell, in the order in which they were read, and the models of arrays."""

    files: tuple[AdoptedFile, ...]
    models: tuple[AdoptedModel, ...] = ()


def reason(error: Fault | None) -> str:
    """Return a refusal in a line, with what was found, or else expected; nothing if there is none."""
    if error is None:
        return ""
    detail = f"expected {error.expected}" if error.found is None else error.found
    return f"{error.what}: {detail} [{error.code}]"


def spec_words(spec: CellSpec) -> str:
    """Return a spec in a line.

    >>> spec_words(CellSpec.preset("high"))
    'D 4, V 32, patch 4, hidden 64, depth 1, cross layers 1, heads 2, gelu, sphere, svd: 40,703 parameters'
    """
    counts = f"D {spec.D}, V {spec.V}, patch {spec.patch_size}, hidden {spec.hidden}, depth {spec.depth}"
    function = f"cross layers {spec.cross_layers}, heads {spec.heads}, {spec.activation}, {spec.row_norm}, {spec.readout}"
    return f"{counts}, {function}: {spec.parameters:,} parameters"


ADOPTING: dict[str, Any] = {"adopt": AdoptAnswer}
