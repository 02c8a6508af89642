"""The form of a kind of artifact: its documents, the columns of a list, and the way to a file and back. No torch here."""

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

CellOrigins = Mapping[str, Mapping[str, str]]  # by cell: its reference, version, sha256 of its file, digest of its tensors


class ArtifactDocument(Sealed):
    """The base of what an artifact's file says of itself."""

    @property
    @abstractmethod
    def lock(self) -> dict[str, dict[str, str]]:
        """Version and digests by cell, as ``container.lock`` has them."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Fields of the manifest, but for those of every manifest."""


Says = TypeVar("Says", bound=ArtifactDocument)


@dataclass(frozen=True)
class Column:
    """A column of a list.

    Attributes:
        name: Its heading.
        text: From a summary to what stands there.
        on_card: Whether the card of a registry on the Hub has it, too.
    """

    name: str
    text: Callable[[Any], str]
    on_card: bool = True


class ArtifactForm(ABC, Generic[Says]):
    """A kind of artifact. One object of each is in the table, :data:`composer.artifact.kinds.FORMS`.

    Attributes:
        manifest: The class of its manifests; ``manifest.KIND`` says who the kind is.
        summary: The class of what an index says of it.
        columns: Of a list, from the summary.
        takes: What can be saved, for a message.
        needs_lock: Whether saving takes the lock of the cells; else the value itself has it.

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

    @property
    def kind(self) -> ArtifactKind:
        """Who it is."""
        return self.manifest.KIND

    @abstractmethod
    def document(self) -> type[Says]:
        """Class of what a file says of itself."""

    @abstractmethod
    def holds(self, value: object) -> bool:
        """Whether a value in memory is of this kind."""

    @abstractmethod
    def take_apart(self, value: Any, lock: CellOrigins | None) -> tuple[Mapping[str, Any], Arrays]:
        """Fields of the document of a value, but for ``blocks`` and ``seal``, and its tensors by name.

        Raises:
            BatteriesError: a value that cannot be saved.
        """

    @abstractmethod
    def put_together(self, opened: Opened[Says]) -> Any:
        """Value of a file."""

    def check_numbers(self, opened: Opened[Says], where: object) -> None:
        """Refuse what only the tensors tell, whenever a file is opened."""

    def check_cells(self, opened: Opened[Says], where: object) -> None:
        """Compare cells in a file with their digests, when it is published or fetched."""

    def weights(self, opened: Opened[Says]) -> Iterator[tuple[str, CellSpec, dict[str, np.ndarray]]]:
        """Name, spec and arrays of every cell whose weights are in a file."""
        return iter(())

    def open(self, data: Data, *, where: object, seal: str | None = None, cells: bool = True) -> Opened[Says]:
        """Whole file, every byte of it compared with the seal's word.

        Args:
            data: The file.
            where: What it is, for the message.
            seal: What somebody promised; left out, the file's own is believed.
            cells: Whether cells in it are compared with their own digests too, which takes about as long again.

        Raises:
            BatteriesError: as :func:`composer.sealed.reader.open_sealed`, :meth:`check_numbers` and :meth:`check_cells`.
        """
        opened = open_sealed(self.document(), data, where=where, seal=seal)
        self.check_numbers(opened, where)
        if cells:
            self.check_cells(opened, where)
        return opened

    def load(self, path: Path, *, seal: str | None = None) -> Any:
        """Value of a file, every byte of which is compared with the seal's word; arguments as of :meth:`open`.

        That its cells are those of the lock is a matter of publishing, and of ``container.verify()``.

        Raises:
            BatteriesError: as :meth:`open`.
        """
        data = atomic_files.mapped(path, limit=self.kind.limit, links=True)
        return self.put_together(self.open(data, where=path, seal=seal, cells=False))

    def describe(
        self,
        document: Says,
        file: PackedFile,
        label: PackedLabel,
        *,
        package: str | None = None,
        torch: str | None = None,
    ) -> PackedManifest:
        """Manifest of a file.

        Args:
            document: What it says.
            file: Its size and digests.
            label: What a person says.
            package: Version of this package that made it; left out, the one that runs.
            torch: The same of torch.
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
    """Flag in a column."""
    return "yes" if flag else "no"
