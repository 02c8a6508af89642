"""Identity of each kind of artifact. A sealed file names its kind in its first bytes, so that it is never taken for a cell.

Every kind except the cell is a safetensors file with one metadata key, ``svae-batteries.<name>``. The kinds are listed in
:mod:`composer.artifact.kinds`, with the operations on each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_START = re.compile(rb'\{"__metadata__":\{"svae-batteries\.([a-z]{1,32})":')


@dataclass(frozen=True)
class ArtifactKind:
    """Identity of a kind of artifact. A name that is already plural, such as ``maps``, stays as it is.

    Attributes:
        name: Metadata key of the files, and the part of a reference that is the band for a cell.
        words: Name of a single artifact in messages.
        limit: Size of the largest file, in bytes.
        schema: Version of the oldest index and lock schema with a table of this kind.
    """

    name: str
    words: str
    limit: int
    schema: str

    @property
    def plural(self) -> str:
        """Name of the table of such artifacts.

        >>> [ArtifactKind(name, "", 0, "1.0").plural for name in ("model", "maps")]
        ['models', 'maps']
        """
        return self.name if self.name.endswith("s") else f"{self.name}s"

    @property
    def code(self) -> str:
        """Code of the error raised where another kind is required, see :func:`code_of`."""
        return code_of(self.name)

    @property
    def start(self) -> bytes:
        """First bytes of the header of such a file, after the 8 bytes of its size."""
        return f'{{"__metadata__":{{"svae-batteries.{self.name}":'.encode()


def name_in(data: bytes | memoryview) -> str | None:
    """Return the name of the kind in the first bytes of a file; None if there is none, as in a cell.

    >>> name_in(bytes(8) + ArtifactKind("maps", "maps", 0, "1.2").start), name_in(b"")
    ('maps', None)
    """
    found = _START.match(bytes(data[8:80]))
    return None if found is None else found[1].decode()


def code_of(name: str) -> str:
    """Return the code of the error raised where another kind than this is required.

    >>> code_of("model"), code_of("maps")
    ('A_MODEL', 'MAPS')
    """
    return name.upper() if name.endswith("s") else f"A_{name.upper()}"
