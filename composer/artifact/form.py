"""Interface of a kind of artifact: its documents, columns in lists, saving and loading. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from batteries import __version__
from batteries.cell.artifact_kinds import ArtifactKind
from batteries.cell.spec import CellSpec
from batteries.io import atomic_files, canonical_json
from batteries.io.atomic_files import Data
from composer.artifact.manifest import PackedFile, PackedLabel, PackedManifest, PackedSummary
from composer.sealed.file_format import Sealed
from composer.sealed.reader import Opened, open_sealed

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray]

CellOrigins = Mapping[str, Mapping[str, str]]  # by cell: reference, version, sha256 of its file, digest of its tensors


class ArtifactDocument(Sealed):
    """Base of the documents of artifacts."""

    @property
    @abstractmethod
    def lock(self) -> dict[str, dict[str, str]]:
        """Version and digests of each cell, as in ``container.lock``."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return the manifest's fields that are specific to the kind."""


Says = TypeVar("Says", bound=ArtifactDocument)


@dataclass(frozen=True)
class Column:
    """Column of a list of artifacts.

    Attributes:
        name: Heading of the column.
        text: Function from a summary to the text of a cell.
        on_card: True to show the column on the card of a registry on the Hub, too.
    """

    name: str
    text: Callable[[Any], str]
    on_card: bool = True


class ArtifactForm(ABC, Generic[Says]):
    """Kind of artifact. One instance of each kind is in the table :data:`composer.artifact.kinds.FORMS`.

    Attributes:
        manifest: Class of the manifests; ``manifest.KIND`` identifies the kind.
        summary: Class of the summaries in an index.
        columns: Columns of a list, computed from a summary.
        takes: Types of values that can be saved, for error messages.
        needs_lock: True if saving requires the lock of the cells as an argument; otherwise the value has it.

    >>> from composer import artifact
    >>> form = artifact.kinds.FORMS["maps"]
    >>> form.kind.plural, form.needs_lock, form.manifest.__name__
    ('maps', True, 'MapsManifest')
    """

    manifest: ClassVar[type[PackedManifest]]
    summary: ClassVar[type[PackedSummary]]
    columns: ClassVar[tuple[Column, ...]]
    takes: ClassVar[str]
    needs_lock: ClassVar[bool] = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kind.name})"

    @property
    def kind(self) -> ArtifactKind:
        """Identity of the kind."""
        return self.manifest.KIND

    @abstractmethod
    def document(self) -> type[Says]:
        """Return the class of the documents."""

    @abstractmethod
    def holds(self, value: object) -> bool:
        """Return whether a value in memory is of this kind."""

    @abstractmethod
    def take_apart(self, value: Any, lock: CellOrigins | None) -> tuple[Mapping[str, Any], Arrays]:
        """Return the fields of a value's document, except ``blocks`` and ``seal``, and its tensors by name.

        Raises:
            BatteriesError: a value that cannot be saved.
        """

    @abstractmethod
    def put_together(self, opened: Opened[Says]) -> Any:
        """Build the value of an opened file."""

    def check_numbers(self, opened: Opened[Says], where: object) -> None:
        """Refuse invalid tensors, whenever a file is opened."""

    def check_cells(self, opened: Opened[Says], where: object) -> None:
        """Compare the cells in a file with their digests."""

    def weights(self, opened: Opened[Says]) -> Iterator[tuple[str, CellSpec, dict[str, np.ndarray]]]:
        """Iterate over name, spec and arrays of every cell whose weights are in a file."""
        return iter(())

    def open(self, data: Data, *, where: object, seal: str | None = None, cells: bool = True) -> Opened[Says]:
        """Open a file, and check every byte against its seal.

        Args:
            data: Bytes of the file.
            where: Path or name of the file, for error messages.
            seal: Expected seal; if None, the file's own seal is trusted.
            cells: True to compare cells in the file with their own digests too, which takes about as long again.

        Raises:
            BatteriesError: as in :func:`composer.sealed.reader.open_sealed`, :meth:`check_numbers` and :meth:`check_cells`.
        """
        opened = open_sealed(self.document(), data, where=where, seal=seal)
        self.check_numbers(opened, where)
        if cells:
            self.check_cells(opened, where)
        return opened

    def load(self, path: Path, *, seal: str | None = None) -> Any:
        """Load the value of a file: check every byte against its seal, and the weights of its cells against their lock.

        Args:
            path: Path of the file.
            seal: Expected seal; if None, the file's own seal is trusted.

        Raises:
            BatteriesError: as in :meth:`open`.
        """
        data = atomic_files.mapped(path, limit=self.kind.limit, links=True)
        return self.put_together(self.open(data, where=path, seal=seal))

    def describe(
        self,
        document: Says,
        file: PackedFile,
        label: PackedLabel,
        *,
        package: str | None = None,
        torch: str | None = None,
    ) -> PackedManifest:
        """Make the manifest of a file.

        Args:
            document: Document of the file.
            file: Size and digests of the file.
            label: Name, version, license and description.
            package: Version of this package that made the file; defaults to the installed one.
            torch: Version of torch that made the file; defaults to the installed one.
        """
        return self.manifest(
            identity=label,
            file=file,
            cells=len(document.lock),
            lock=canonical_json.sha256(canonical_json.dump(document.lock)),
            package=package or __version__,
            torch=torch or version("torch"),
            **document.facts(),
        )


def yes_no(flag: bool) -> str:
    """Format a flag for a column."""
    return "yes" if flag else "no"
