"""Nodes of a composition as frozen data, with their inputs, and the form of a name."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, FailFast, Field, Tag

from batteries.io.canonical_json import Document

MAX_NAME = 130  # two names of a reference and a slash

Role = Literal["of", "source", "target"]
Reads = tuple[tuple[Role, str], ...]
PART = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
NAME = re.compile(rf"{PART}(?:/{PART})?")
_NAME_FORM = "a-z, 0-9, '.', '_', '-' and at most one '/', with a letter or digit at both ends of each part"
_KINDS_FORM = 'kind should be "parallel", "relay" or "route"'


def _named(name: str) -> str:
    if len(name) > MAX_NAME or not NAME.fullmatch(name):
        raise ValueError(f"a name is 1 to {MAX_NAME} of {_NAME_FORM}")
    return name


def _tuple(value: object) -> object:
    """Convert an array of a file to the tuple that strict validation requires."""
    return tuple(value) if isinstance(value, list) else value


def _kind_of(value: object) -> str | None:
    found = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return found if isinstance(found, str) else None


Name = Annotated[str, AfterValidator(_named)]
Text = Annotated[str, Field(min_length=1, max_length=1024)]
# fail at the first fault: reporting each of two million takes a gigabyte
Branches = Annotated[tuple[str, ...], FailFast(), BeforeValidator(_tuple)]


class Parallel(Document):
    """Node that returns the outputs of all branches side by side.

    Attributes:
        of: Names of cells and nodes, in order.

    >>> import composer
    >>> composer.Parallel(of=("noise", "photo")).reads
    (('of', 'noise'), ('of', 'photo'))
    """

    kind: Literal["parallel"] = "parallel"
    of: Branches

    @property
    def reads(self) -> Reads:
        """Role and name of every input."""
        return tuple(("of", name) for name in self.of)


class Relay(Document):
    """Node that maps one cell's tokens and decodes them in another, with its own U and V of the same image.

    Attributes:
        source: Name of the cell whose tokens are mapped.
        target: Name of the cell that decodes them.
        tokens: Kind of tokens to map: omega, or the rows of M.

    >>> import composer
    >>> composer.Relay(source="noise", target="photo").reads
    (('source', 'noise'), ('target', 'photo'))
    """

    kind: Literal["relay"] = "relay"
    source: str
    target: str
    tokens: Literal["omega", "rows"] = "omega"

    @property
    def reads(self) -> Reads:
        """Role and name of every input."""
        return (("source", self.source), ("target", self.target))


class Route(Document):
    """Node that chooses one branch for each region of the image.

    Attributes:
        of: Names of cells and relays, in order.
        by: Criterion of choice: the least reconstruction error, or a small trainable router.

    >>> import composer
    >>> composer.Route(of=("noise", "photo"), by="router").reads
    (('of', 'noise'), ('of', 'photo'))
    """

    kind: Literal["route"] = "route"
    of: Branches
    by: Literal["error", "router"] = "error"

    @property
    def reads(self) -> Reads:
        """Role and name of every input."""
        return tuple(("of", name) for name in self.of)


Node = Annotated[
    Annotated[Parallel, Tag("parallel")] | Annotated[Relay, Tag("relay")] | Annotated[Route, Tag("route")],
    Discriminator(_kind_of, custom_error_type="kind", custom_error_message=_KINDS_FORM),
]
