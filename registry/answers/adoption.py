"""Adoption of many checkpoints, and the answer of adopt for them under ``--json``, whose schema is in ``docs/schema``."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import batteries
from batteries import packaging
from batteries.cell.cell import Cell
from batteries.cell.input_scale import of_text
from batteries.cell.spec import CellSpec
from batteries.errors import BatteriesError, ConflictError, InputError, PolicyError
from batteries.packaging.measurable import refuse_unmeasurable
from batteries.packaging.shelf import Options, ShelfItem
from batteries.text import unicode
from registry.answers.answer import Answer, Fault, typed
from registry.catalog.reference import Reference

if TYPE_CHECKING:
    from batteries.data.sources import Source
    from batteries.packaging import SharedFigures

BAND = "{band}"
FIELD = re.compile(r"\{(stem|parent)\}")
BETWEEN = re.compile(r"[^a-z0-9]+")
LONGEST = 48  # characters of a field, so that names with two of them stay short
ANY = "open"  # a band, for checks of a name whose band is not known yet
FIRST = "1.0.0"
USAGE = InputError.exit_code
State = Literal["adopted", "kept", "ready", "incomplete", "refused"]


class AdoptedFile(Answer):
    """A checkpoint of a shelf.

    Attributes:
        file: Path, or address on the Hub.
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
        words = f"{self.error.what}: {self.error.found} [{self.error.code}]" if self.error else ""
        missing = f"missing {', '.join(self.missing)}" if self.missing else ""
        spec = "" if self.path or self.spec is None else spec_words(self.spec)
        return self.state, self.file, self.reference or "", self.path or "; ".join(filter(None, (words, missing, spec)))


class AdoptAnswer(Answer):
    """Answer of ``batteries adopt`` for more than one file, in the order in which they were read."""

    files: tuple[AdoptedFile, ...]


@dataclass
class Shelf:
    """Adoption of checkpoints, one after another.

    Attributes:
        out: Folder of the cells.
        shared: Figures that the adoptions share.
        source_of: Function from options to the images of a cell's own domain.
    """

    out: Path
    shared: SharedFigures
    source_of: Callable[[Options], Source]

    def __post_init__(self) -> None:
        self._written: dict[Path, str] = {}

    def adopt(self, item: ShelfItem) -> tuple[Cell, Callable[[], Path]]:
        """Measure the cell of a checkpoint, or recall its figures; return it with a function that writes it.

        Raises:
            InputError: options that are missing (``USAGE``) or invalid.
            PolicyError: another band than that of its name (``BAND_DENIED``). Its figures are kept.
            BatteriesError: any error of :func:`batteries.adopt`.
        """
        options = item.options
        wanted = wanted_name(item)
        if options.missing:
            raise InputError("missing options", code="USAGE", expected=", ".join(options.missing), where=item.file)
        assert options.input is not None, "it is not missing"
        cell = batteries.adopt(
            item.file,
            label=label_of(options, wanted),
            input=of_text(options.input, where="--input"),
            source=self.source_of(options),
            key=options.key,
            size=options.size,
            width=options.width,
            command=options.model_copy(update={"name": filled_name(item)}).command(str(item.file)),
            shared=self.shared,
            **options.of_the_function,
        )
        _refuse_other_band(cell, item, wanted)
        return cell, lambda: self._write(cell, item)

    def rows(self, items: Sequence[ShelfItem]) -> Iterator[tuple[AdoptedFile, int]]:
        """Adopt checkpoints; yield the row of each, with its exit code, and go on after refusals."""
        for item in items:
            started, measured = time.monotonic(), self.shared.measured
            try:
                cell, write = self.adopt(item)
                path = write()
            except BatteriesError as error:
                yield _refused(item, error, started), error.exit_code
            else:
                yield (
                    AdoptedFile(
                        file=unicode(item.file),
                        state="adopted" if self.shared.measured > measured else "kept",
                        reference=f"{cell.name}@{cell.version}",
                        path=unicode(path),
                        spec=cell.spec,
                        reading=cell.manifest.training.reading,
                        seconds=time.monotonic() - started,
                    ),
                    0,
                )

    def _write(self, cell: Cell, item: ShelfItem) -> Path:
        """Write a cell; phases of a run have a folder each, since they have one name."""
        folder = self.out / cell.manifest.identity.band / (item.version or "")
        path = folder / cell.manifest.identity.name
        if path in self._written:
            raise ConflictError(
                "two checkpoints of one name",
                code="OUT_CLASH",
                found=f"{path} of {self._written[path]}",
                where=item.file,
                remedy="Use {parent} in --name, as in '{band}/{parent}-{stem}'.",
            )
        self._written[path] = str(item.file)
        return cell.write(folder)


def dry_rows(items: Sequence[ShelfItem]) -> Iterator[tuple[AdoptedFile, int]]:
    """Read checkpoints without measuring them; yield the row of each, with the exit code that measuring it would begin with."""
    for item in items:
        started, options = time.monotonic(), item.options
        try:
            found = packaging.adoptable(
                item.file, key=options.key, size=options.size, width=options.width, options=options.of_the_function
            )
            data = found.claimed.dataset if found.claimed else None
            refuse_unmeasurable(found.spec, found.size, item.file, any_width=True, data=data)
            reference = _expected_reference(item) if options.name else None
        except BatteriesError as error:
            yield _refused(item, error, started), error.exit_code
        else:
            yield (
                AdoptedFile(
                    file=unicode(item.file),
                    state="incomplete" if options.missing else "ready",
                    reference=reference,
                    spec=found.spec,
                    reading=found.lines,
                    missing=options.missing,
                    seconds=time.monotonic() - started,
                ),
                USAGE if options.missing else 0,
            )


def _expected_reference(item: ShelfItem) -> str:
    """Return the reference of a checkpoint's cell before it is measured."""
    wanted = wanted_name(item)
    band = BAND if BAND in (item.options.name or "") else wanted.band
    return f"{band}/{wanted.name}@{wanted.version or FIRST}"


def _refused(item: ShelfItem, error: BatteriesError, started: float) -> AdoptedFile:
    return AdoptedFile(file=unicode(item.file), state="refused", seconds=time.monotonic() - started, error=Fault.of(error))


def spec_words(spec: CellSpec) -> str:
    """Return a spec in a line.

    >>> spec_words(CellSpec.preset("high"))
    'D 4, V 32, patch 4, hidden 64, depth 1, cross layers 1, heads 2, gelu, sphere, svd: 40,703 parameters'
    """
    counts = f"D {spec.D}, V {spec.V}, patch {spec.patch_size}, hidden {spec.hidden}, depth {spec.depth}"
    function = f"cross layers {spec.cross_layers}, heads {spec.heads}, {spec.activation}, {spec.row_norm}, {spec.readout}"
    return f"{counts}, {function}: {spec.parameters:,} parameters"


def filled_name(item: ShelfItem) -> str:
    """Return the name of a checkpoint's cell, with the fields of its path filled in, and without its band if that is open."""
    words = {"stem": item.run, "parent": item.file.inside.parent.name or (item.file.folder or Path()).absolute().name}
    return FIELD.sub(lambda field: _plain(words[field[1]]), item.options.name or "")


def wanted_name(item: ShelfItem) -> Reference:
    """Return the reference that a checkpoint's cell is to have; its band is ``open`` where measuring will tell it.

    Raises:
        InputError: invalid name (``BAD_REFERENCE``).
    """
    wanted = Reference.parse(filled_name(item).replace(BAND, ANY, 1) or f"{ANY}/x")
    return wanted if wanted.version or item.version is None else wanted.at(item.version)


def label_of(options: Options, wanted: Reference) -> batteries.Label:
    """Make the label of a cell.

    Raises:
        InputError: invalid values, all of them named (``USAGE``).
    """
    return typed(
        batteries.Label,
        name=wanted.name,
        version=wanted.version or FIRST,
        family=options.family or wanted.name.split("-")[0],
        license=options.license or "unknown",
        description=options.description or "",
    )


def _plain(text: str) -> str:
    """Return a name of small letters, digits and hyphens."""
    return BETWEEN.sub("-", text.lower())[:LONGEST].strip("-")


def _refuse_other_band(cell: Cell, item: ShelfItem, wanted: Reference) -> None:
    band = cell.manifest.identity.band
    if BAND not in (item.options.name or "") and band != wanted.band:
        raise PolicyError(
            "band does not match the CV",
            code="BAND_DENIED",
            expected=band,
            found=wanted.band,
            where=str(wanted),
            remedy=f"Name it {band}/{wanted.name}, or '{BAND}/{wanted.name}', which measures nothing again; "
            "or check the input scale, the width and the row norm.",
        )


ADOPTING: dict[str, Any] = {"adopt": AdoptAnswer}
