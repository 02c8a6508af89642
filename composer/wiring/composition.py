"""Composition: cells and the nodes over them as frozen data, in a TOML file that is written by hand.

    schema_version = "1.0"
    output = "routed"                      # the node whose result the model returns

    [cells]                                # alias = "reference", which the registry resolves
    noise = "high/johanna-64@1.0.0"
    photo = "high/fresnel-64"

    [nodes.swap]
    kind = "relay"                         # map the source's tokens, and decode them in the target on the same image
    source = "noise"
    target = "photo"

    [nodes.routed]
    kind = "route"                         # choose one branch for each patch region
    of = ["swap", "photo"]

Every Composition object is valid: its graph has no cycle, and the output needs every cell and node. Whether the cells are
compatible depends on their specs, which :meth:`Composition.check` compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import networkx as nx
import tomli_w
from pydantic import Field, ValidationError, model_validator

from batteries import short_repr
from batteries.cell.spec import CellSpec
from batteries.errors import FormatError, InputError, PolicyError
from batteries.io import atomic_files
from batteries.io.canonical_json import MAX_FAULTS, Document, fields_of, refuse_newer
from batteries.io.texts import toml_text
from batteries.text import listed
from composer.vocabulary import NodeKind
from composer.wiring import validation
from composer.wiring.nodes import Name, Node, Parallel, Text
from composer.wiring.validation import MAX_SHOWN

MAX_FILE = 4 * 2**20
MAX_ENTRIES = 4096  # cells, and as many nodes

_QUOTES = 'A name with "/" or "." must be quoted.'
_NODE_FORM = f'A node has kind = "parallel" and of; "relay" and source, target, tokens; or "route" and of, by. {_QUOTES}'
_TABLE = "A relay takes two cells, a route cells and relays, a parallel any cell or node; the output must need all of them."


class Composition(Document):
    """Cells, the nodes over them, and the node whose result the model returns.

    Cells and nodes share one namespace. Validation reports all faults together.

    Attributes:
        output: Name of the node, or of the only cell, whose result the model returns.
        cells: Cell references by alias, not resolved here.
        nodes: Nodes by name.

    Raises:
        PolicyError: unknown, duplicate or unused names, a cycle, too few branches, or a node nested in one that does not
            accept it (``COMPOSITION``).

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
        _refuse(validation.of_structure(self), "invalid composition", "COMPOSITION", _TABLE)
        return self

    @classmethod
    def parallel(cls, references: Mapping[str, str]) -> Composition:
        """Make a composition of cells side by side, in a parallel node named ``all``.

        Args:
            references: Cell references by alias, in order.

        Raises:
            InputError: an invalid alias or reference (``CELLS``).
            PolicyError: no cell, or a cell named ``all`` (``COMPOSITION``).

        >>> Composition.parallel({"noise": "high/johanna-64", "photo": "high/fresnel-64"}).nodes["all"].reads
        (('of', 'noise'), ('of', 'photo'))
        """
        try:
            every = Parallel(of=tuple(references))
            return cls(schema_version="1.0", output="all", cells=dict(references), nodes={"all": every})
        except ValidationError as error:
            raise InputError("invalid cells", code="CELLS", found=fields_of(error)) from error

    @classmethod
    def from_toml(cls, text: str, *, where: object) -> Composition:
        """Parse and validate a composition.

        Args:
            text: TOML text.
            where: Path or name of the text, for error messages.

        Raises:
            FormatError: text larger than 4 MiB (``TOO_LARGE``), nested too deeply (``TOO_DEEP``), not TOML (``TOML``), of a
                newer schema (``SCHEMA_NEWER``), or with fields missing, unknown or of the wrong type (``SCHEMA``).
            PolicyError: an invalid composition (``COMPOSITION``).
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
            FormatError: a file that is not a composition, see :meth:`from_toml`.
            PolicyError: an invalid composition (``COMPOSITION``).
            StoreError: a file that cannot be read.
        """
        try:
            text = atomic_files.read(Path(path), limit=MAX_FILE, links=True).decode()
        except UnicodeDecodeError as error:
            raise _not_toml(error, path) from error
        return cls.from_toml(text, where=path)

    def to_toml(self) -> str:
        """Serialise as TOML, which parses to an equal composition."""
        return tomli_w.dumps(self.model_dump(mode="json"))

    def __repr__(self) -> str:
        counts = short_repr.counted(len(self.cells), "cell"), short_repr.counted(len(self.nodes), "node")
        head = short_repr.headed(self, *counts, f"output={self.output!r}")
        return short_repr.rows(head, [f"cells: {listed(list(self.cells))}", *self.node_lines()])

    def node_lines(self) -> list[str]:
        """Describe every node in a line."""
        return [f"{name}: {node!r}" for name, node in self.nodes.items()]

    def kind(self, name: str) -> NodeKind:
        """Return the kind of a node, or ``cell`` for a cell."""
        return self.nodes[name].kind if name in self.nodes else "cell"

    def graph(self) -> nx.DiGraph:
        """Return a graph of cells and nodes with their ``kind``; edges, with their ``role``, go from input to reader."""
        graph = nx.DiGraph()
        for name in sorted({*self.cells, *self.nodes}):
            graph.add_node(name, kind=self.kind(name))
        for name, node in self.nodes.items():
            graph.add_edges_from((read, name, {"role": role}) for role, read in node.reads)
        return graph

    @property
    def order(self) -> tuple[str, ...]:
        """Names of the nodes, each after its inputs."""
        return tuple(name for name in nx.lexicographical_topological_sort(self.graph()) if name in self.nodes)

    @property
    def generations(self) -> tuple[tuple[str, ...], ...]:
        """Names by generation: first cells, then nodes that read only cells, and so on, each as early as possible."""
        return tuple(tuple(sorted(names)) for names in nx.topological_generations(self.graph()))

    def check(self, specs: Mapping[str, CellSpec], size: tuple[int, int] | None = None) -> None:
        """Check that the cells are compatible: their widths, channels and patch grids.

        Args:
            specs: Spec of every cell, by alias.
            size: Height and width of the images; without it, conditions on the size are not checked.

        Raises:
            InputError: a cell without a spec (``SPECS``).
            PolicyError: incompatible cells, with every fault listed (``WIRING``).
        """
        if missing := [alias for alias in self.cells if alias not in specs]:
            raise InputError("cells without a spec", code="SPECS", found=", ".join(missing[:MAX_SHOWN]))
        _refuse(
            validation.of_cells(self, specs, size),
            "incompatible cells",
            "WIRING",
            "Choose cells of one width whose patches divide one another, or put them side by side in a parallel node.",
        )


def _refuse(found: Iterable[str], what: str, code: str, remedy: str) -> None:
    wrong = list(dict.fromkeys(found))
    if wrong:
        more = f"; and {len(wrong) - MAX_FAULTS} more" if len(wrong) > MAX_FAULTS else ""
        raise PolicyError(what, code=code, found="; ".join(wrong[:MAX_FAULTS]) + more, remedy=remedy)


def _parse(text: str, where: object) -> dict[str, Any]:
    try:
        return toml_text.parse(text, where=where, limit=MAX_FILE)
    except FormatError as error:
        if error.code == "TOO_DEEP":
            error.expected = "at most 3 levels"
        if error.code != "TOML":
            raise
        raise _not_toml(error.found, where) from error


def _not_toml(found: object, where: object) -> FormatError:
    return FormatError(
        "not TOML",
        code="TOML",
        expected='schema_version = "1.0", output = "..." and tables [cells] and [nodes.<name>]',
        found=found,
        where=where,
        remedy=f"Correct the file at the place reported. {_QUOTES}",
    )
