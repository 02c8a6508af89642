"""The methods of a mapping, for objects with names that must be no :class:`~collections.abc.Mapping` to torch or pydantic."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any, Generic, TypeVar, cast, overload

Value = TypeVar("Value")
Default = TypeVar("Default")


class Lookup(Generic[Value]):
    """Values by name, as of a mapping: a class adds ``[]``, ``in``, ``iter`` and ``len``, and an unknown name is a KeyError."""

    def __getitem__(self, name: str) -> Value:
        raise NotImplementedError

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in tuple(self)

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def keys(self) -> KeysView[str]:
        """Return the names, in order."""
        return KeysView(cast(Any, self))

    def values(self) -> ValuesView[Value]:
        """Return the values, in the order of their names."""
        return ValuesView(cast(Any, self))

    def items(self) -> ItemsView[str, Value]:
        """Return the names, each with its value."""
        return ItemsView(cast(Any, self))

    @overload
    def get(self, name: str) -> Value | None: ...

    @overload
    def get(self, name: str, default: Default) -> Value | Default: ...

    def get(self, name: str, default: object = None) -> object:
        """Return the value of a name, or the default where there is no such name."""
        if name in self:
            return self[name]
        return default
