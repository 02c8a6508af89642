"""Kinds of artifact beside the cell. Each says in the first bytes of its file what it is, so that none is taken for another.

The file of such a kind is safetensors with one metadata key, ``svae-batteries.<kind>``: :mod:`composer.sealed.file_format` has
the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from batteries.cell.manifest import MAX_BLOB


@dataclass(frozen=True)
class ArtifactKind:
    """One kind.

    Attributes:
        name: Stands where a band stands in a reference, and in the file's metadata key.
        words: What one is, in a sentence.
        plural: Of the name: what a table of them is called.
        code: Of the error where one is given and something else is wanted.
        limit: Bytes that its file may have.
        reader: The function that reads its file.
        puller: The function that pulls it.
    """

    name: str
    words: str
    plural: str
    code: str
    limit: int
    reader: str
    puller: str

    @property
    def start(self) -> bytes:
        """How the header of its file starts, after the 8 bytes of its size."""
        return f'{{"__metadata__":{{"svae-batteries.{self.name}":'.encode()


MODEL = ArtifactKind("model", "a composed model", "models", "A_MODEL", MAX_BLOB, "composer.load", "registry.pull_model")
MAPS = ArtifactKind("maps", "maps between cells", "maps", "MAPS", 64 * 2**20, "composer.load_maps", "registry.pull_maps")
KINDS = {kind.name: kind for kind in (MODEL, MAPS)}


def kind_of(data: bytes | memoryview) -> ArtifactKind | None:
    """The kind that the first bytes of a file name; None where they name none, as a cell's do not.

    >>> kind_of(bytes(8) + MAPS.start).name, kind_of(b"")
    ('maps', None)
    """
    return next((kind for kind in KINDS.values() if bytes(data[8 : 8 + len(kind.start)]) == kind.start), None)
