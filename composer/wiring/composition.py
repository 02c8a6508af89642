"""Which cell feeds what, as frozen data: a composition, in a TOML file that people write by hand.

    schema_version = "1.0"
    output = "routed"                      # whose result is the model's

    [cells]                                # alias = "reference"; what a reference means is the registry's business
    noise = "high/johanna-64@1.0.0"
    photo = "high/fresnel-64"

    [nodes.swap]
    kind = "relay"                         # the source's tokens, mapped, decoded by the target on the same image
    source = "noise"
    target = "photo"

    [nodes.routed]
    kind = "route"                         # per patch region, one branch
    of = ["swap", "photo"]

A composition that exists is valid: its graph has no circle, and the output needs everything in it. Whether the cells
themselves go together is another question, which :meth:`Composition.check` answers from their specs.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import networkx as nx
import tomli_w
from pydantic import Field, ValidationError, model_validator

from batteries.cell.spec import CellSpec
from batteries.errors import FormatError, InputError, PolicyError
from batteries.io import atomic_files
from batteries.io.canonical_json import MAX_DEPTH, MAX_FAULTS, Document, fields_of, refuse_newer
from composer.vocabulary import NodeKind
from composer.wiring import validation
from composer.wiring.nodes import Name, Node, Parallel, Text
from composer.wiring.validation import MAX_SHOWN

MAX_FILE = 4 * 2**20
MAX_ENTRIES = 4096  # cells, and as many nodes


# what a dot means nothing in. Possessive, and each may end with the text, so that nothing is looked at twice
_TEXTS = re.compile(
    r'"""(?:[^"\\]++|\\[\s\S]?|"(?!""))*+(?:"{3,5}|\Z)'
    r"|'{3}(?:[^']++|'(?!''))*+(?:'{3,5}|\Z)"
    r'|"(?:[^"\\\n]++|\\.?)*+"?'
    r"|'[^'\n]*+'?"
    r"|#[^\n]*+"
)
_DEEP_KEY = re.compile(rf"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}")
_QUOTES = 'A name with "/" or "." stands in quotes.'
_NODE_FORM = f'A node has kind = "parallel" and of; "relay" and source, target, tokens; or "route" and of, by. {_QUOTES}'
_TABLE = "A relay takes two cells, a route takes cells and relays, a parallel takes anything, and the output needs all of them."


class Composition(Document):
    """Cells, what is made of them, and which result is the model's.

    Cells and nodes share one namespace. Making one finds every fault at once.

    Attributes:
        output: The node (or the only cell) whose result it is.
        cells: Alias to reference; a reference is opaque here.
        nodes: Name to node.

    Raises:
        PolicyError: names that are unknown, given twice or not needed, a circle, too few branches, or a node in one that
            does not take it (``COMPOSITION``).

    >>> import composer
    >>> nodes = {"best": composer.Route(of=("noise", "photo"))}
    >>> cells = {"noise": "low/johanna-64", "photo": "low/fresnel-64"}
    >>> composition = composer.Composition(schema_version="1.0", output="best", cells=cells, nodes=nodes)
    >>> composition.order, composer.Composition.from_toml(composition.to_toml(), where="mine.toml") == composition
    (('best',), True)
    """

    SCHEMA_VERSION: ClassVar[str] = "1.0"

    schema_version: Literal["1.0"]
    output: str
    cells: Annotated[dict[Name, Text], Field(max_length=MAX_ENTRIES)]
    nodes: Annotated[dict[Name, Node], Field(max_length=MAX_ENTRIES)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        _refuse(validation.of_structure(self), "a composition that cannot be", "COMPOSITION", _TABLE)
        return self

    @classmethod
    def parallel(cls, references: Mapping[str, str]) -> Composition:
        """All cells side by side, in a node ``all``.

        Args:
            references: Alias to reference, in order.

        Raises:
            InputError: an alias or a reference that cannot be one (``CELLS``).
            PolicyError: no cell, or one of the name ``all`` (``COMPOSITION``).

        >>> Composition.parallel({"noise": "high/johanna-64", "photo": "high/fresnel-64"}).nodes["all"].reads
        (('of', 'noise'), ('of', 'photo'))
        """
        try:
            every = Parallel(of=tuple(references))
            return cls(schema_version="1.0", output="all", cells=dict(references), nodes={"all": every})
        except ValidationError as error:
            raise InputError("cells that cannot be composed", code="CELLS", found=fields_of(error)) from error

    @classmethod
    def from_toml(cls, text: str, *, where: object) -> Composition:
        """Parse and validate a composition.

        Args:
            text: TOML.
            where: What it is, for the message.

        Raises:
            FormatError: larger than 4 MiB (``TOO_LARGE``), nested too deeply (``TOO_DEEP``), not TOML (``TOML``), of a newer
                schema (``SCHEMA_NEWER``), or with fields missing, unknown or of the wrong type (``SCHEMA``).
            PolicyError: a composition that cannot be (``COMPOSITION``).
        """
        values = _parse(text, where)
        refuse_newer(cls, values, where)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            found = fields_of(error)
            raise FormatError("not a valid composition", code="SCHEMA", found=found, where=where, remedy=_NODE_FORM) from error
        except PolicyError as error:
            error.where = where
            raise

    @classmethod
    def read(cls, path: str | Path) -> Composition:
        """Read a composition from a file.

        Raises:
            NotFoundError: no such file.
            FormatError: a file that is no composition; see :meth:`from_toml`.
            PolicyError: a composition that cannot be (``COMPOSITION``).
            StoreError: the disk would not give it.
        """
        try:
            text = atomic_files.read(Path(path), limit=MAX_FILE, links=True).decode()
        except UnicodeDecodeError as error:
            raise _not_toml(error, path) from error
        return cls.from_toml(text, where=path)

    def to_toml(self) -> str:
        """Composition as TOML, which reads back as an equal one."""
        return tomli_w.dumps(self.model_dump(mode="json"))

    def kind(self, name: str) -> NodeKind:
        """What a name stands for."""
        return self.nodes[name].kind if name in self.nodes else "cell"

    def graph(self) -> nx.DiGraph:
        """Everything, with its ``kind``; an edge, with its ``role``, goes from what is read to who reads it."""
        graph = nx.DiGraph()
        for name in sorted({*self.cells, *self.nodes}):
            graph.add_node(name, kind=self.kind(name))
        for name, node in self.nodes.items():
            graph.add_edges_from((read, name, {"role": role}) for role, read in node.reads)
        return graph

    @property
    def order(self) -> tuple[str, ...]:
        """The nodes, each after what it reads."""
        return tuple(name for name in nx.lexicographical_topological_sort(self.graph()) if name in self.nodes)

    @property
    def generations(self) -> tuple[tuple[str, ...], ...]:
        """First the cells, then what reads nothing but cells, and so on: everything as early as it can be."""
        return tuple(tuple(sorted(names)) for names in nx.topological_generations(self.graph()))

    def check(self, specs: Mapping[str, CellSpec], size: tuple[int, int] | None = None) -> None:
        """Check that the cells go together: their widths, channels and grids of patches.

        Args:
            specs: Of every cell, by alias.
            size: Height and width of the images; left out, what depends on it is not checked.

        Raises:
            InputError: a cell without a spec (``SPECS``).
            PolicyError: cells that do not go together, all of them named (``WIRING``).
        """
        if missing := [alias for alias in self.cells if alias not in specs]:
            raise InputError("cells without a spec", code="SPECS", found=", ".join(missing[:MAX_SHOWN]))
        _refuse(
            validation.of_cells(self, specs, size),
            "cells that do not go together",
            "WIRING",
            "Choose cells of one width whose patches divide one another, or put them side by side in a parallel.",
        )


def _refuse(found: Iterable[str], what: str, code: str, remedy: str) -> None:
    wrong = list(dict.fromkeys(found))
    if wrong:
        more = f"; and {len(wrong) - MAX_FAULTS} more" if len(wrong) > MAX_FAULTS else ""
        raise PolicyError(what, code=code, found="; ".join(wrong[:MAX_FAULTS]) + more, remedy=remedy)


def _parse(text: str, where: object) -> dict[str, Any]:
    """TOML as a dictionary.

    The parser copies a dotted key part by part, which takes hours for a key of a million: such a one is found before.
    """
    try:
        size = len(text.encode())
        if size > MAX_FILE:
            raise FormatError("too large", code="TOO_LARGE", expected=f"at most {MAX_FILE} bytes", found=size, where=where)
        if _DEEP_KEY.search(_TEXTS.sub("_", text)):
            raise RecursionError
        return tomllib.loads(text)
    except RecursionError as error:
        raise FormatError("nested too deeply", code="TOO_DEEP", expected="at most 3 levels", where=where) from error
    except ValueError as error:  # also a lone surrogate, and an integer of too many digits
        raise _not_toml(error, where) from error


def _not_toml(found: object, where: object) -> FormatError:
    return FormatError(
        "not TOML",
        code="TOML",
        expected='schema_version = "1.0", output = "..." and tables [cells] and [nodes.<name>]',
        found=found,
        where=where,
        remedy=f"Correct the file at that place. {_QUOTES}",
    )
