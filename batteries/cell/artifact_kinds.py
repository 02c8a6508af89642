"""Kinds of artifact: who each is. A sealed file says in its first bytes of which kind it is, so that none is taken for a cell.

The file of every kind but the cell is safetensors with one metadata key, ``svae-batteries.<name>``. No kind is listed here:
:mod:`composer.artifact.kinds` has the table, and what can be done with each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_START = re.compile(rb'\{"__metadata__":\{"svae-batteries\.([a-z]{1,32})":')


@dataclass(frozen=True)
class ArtifactKind:
    """Identity of a kind. A name in the plural, such as ``maps``, is its own plural.

    Attributes:
        name: Key of its files' metadata, and what stands where a band stands in a reference.
        words: One artifact of the kind, for messages.
        limit: Bytes of the largest file.
        schema: Of the oldest index and lock that have a table of the kind.
    """

    name: str
    words: str
    limit: int
    schema: str

    @property
    def plural(self) -> str:
        """Name of a table of such artifacts.

        >>> [ArtifactKind(name, "", 0, "1.0").plural for name in ("model", "maps")]
        ['models', 'maps']
        """
        return self.name if self.name.endswith("s") else f"{self.name}s"

    @property
    def code(self) -> str:
        """Code of the error where one is given and another kind is wanted, see :func:`code_of`."""
        return code_of(self.name)

    @property
    def start(self) -> bytes:
        """First bytes of a file's header, after the 8 bytes of its size."""
        return f'{{"__metadata__":{{"svae-batteries.{self.name}":'.encode()


def name_in(data: bytes | memoryview) -> str | None:
    """Name of the kind in the first bytes of a file; None where there is none, as in a cell's.

    >>> name_in(bytes(8) + ArtifactKind("maps", "maps", 0, "1.2").start), name_in(b"")
    ('maps', None)
    """
    found = _START.match(bytes(data[8:80]))
    return None if found is None else found[1].decode()


def code_of(name: str) -> str:
    """Code of the error where an artifact of this name is given and another is wanted.

    >>> code_of("model"), code_of("maps")
    ('A_MODEL', 'MAPS')
    """
    return name.upper() if name.endswith("s") else f"A_{name.upper()}"
