"""Cells of a container by name, as a mapping has its values, and a container in a few lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from batteries import short_repr
from batteries.cell.spec import CellSpec
from batteries.lookup import Lookup
from batteries.text import listed

Part = TypeVar("Part")


class NamedCells(Lookup[Part]):
    """Mapping from the name of a cell to the part of a container that is this cell; the names in order.

    Attributes:
        names: Names of the cells, in order.
    """

    names: tuple[str, ...]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def described(kind: str, members: Mapping[CellSpec, tuple[str, ...]], more: Iterable[str], below: Iterable[str] = ()) -> str:
    """Describe cells in a few lines, those of a spec in one.

    Args:
        kind: Name of the class.
        members: Names of the cells, by spec.
        more: Further facts for the first line.
        below: Further lines.
    """
    cells = short_repr.counted(sum(map(len, members.values())), "cell")
    parameters = sum(spec.parameters * len(names) for spec, names in members.items())
    lines = [f"{spec!r}: {listed(names)}" for spec, names in members.items()]
    return short_repr.rows(f"{kind}({', '.join([cells, f'{parameters:,} parameters', *more])})", [*lines, *below])
