"""Conditions on cells, such as ``D == 16 and mse < 0.01 and viable``, over the summaries in an index, without manifests.

The language is a small subset of Python's expressions. Python's parser reads the text, which is never executed: a walk over the
tree accepts only the nodes below, and checks the kind of every part before the first cell is examined.

    fields            flags such as ``viable`` stand alone; numbers and texts are compared
    numbers, texts    ``0.01``, ``-1``, ``"johanna"``, True, False
    comparisons       ``== != < <= > >=``, in chains too; only numbers have an order
    lists             ``D in (4, 16)``, ``family not in ["johanna"]``
    and, or, not, parentheses

Any comparison with a figure that a cell does not have is false, and so is a flag that it does not have.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from batteries.errors import InputError
from batteries.text import did_you_mean
from registry.catalog.attestation import HOLDING
from registry.stores.snapshot import Located

MAX_QUERY = 500  # characters
MAX_DEPTH = 20  # largest number of parentheses, and depth of nested operators
EXAMPLE = "D == 16 and mse < 0.01 and viable"

FieldKind = Literal["number", "text", "flag"]
Value = bool | int | float | str | None
Row = Mapping[str, Value]

_TEXTS = ("band", "name", "version", "family", "license", "own_probe", "verdict")
_FLAGS = ("on_attractor", "holds", "yanked", "viable")
_NUMBERS = (
    *("V", "D", "patch_size", "resolution", "parameters", "mse", "size"),
    *("cv", "cv_standard_error", "axial_cv", "axial_cv_standard_error", "ratio"),
)
FIELDS: dict[str, FieldKind] = {
    **dict.fromkeys(_TEXTS, "text"),
    **dict.fromkeys(_FLAGS, "flag"),
    **dict.fromkeys(_NUMBERS, "number"),
}

_SAME: dict[type[ast.cmpop], Callable[[Value, Value], bool]] = {ast.Eq: operator.eq, ast.NotEq: operator.ne}
_ORDER: dict[type[ast.cmpop], Callable[..., bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_WORST_FIRST = ("walked back", "no verdict", "viable as a reconstructor", "viable")


@dataclass(frozen=True)
class Query:
    """A parsed condition.

    Attributes:
        text: Condition as written.
    """

    text: str
    _condition: Callable[[Row], Value] = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Query:
        """Parse a condition.

        Raises:
            InputError: invalid condition: too long, too deep, not in the language, with an unknown field, or with a comparison
                between kinds (``WHERE``).
        """
        return cls(text, _Reader(text).condition())

    def matches(self, row: Row) -> bool:
        """Return whether a row with a value for each of :data:`FIELDS` satisfies the condition."""
        return bool(self._condition(row))


def row_of(located: Located) -> dict[str, Value]:
    """Return the index's figures of a cell as a row for :meth:`Query.matches`.

    ``verdict`` is the worst of the current attestations, but for certificates about adaptations; a cell is ``viable`` if it
    has at least one and all are viable.
    """
    release, reference = located.cell_release, located.reference
    verdicts = {one.verdict for protocol, one in located.attestations.items() if not protocol.startswith(HOLDING)}
    return {
        **dict(release.summary),
        "band": reference.band,
        "name": reference.name,
        "version": reference.version,
        "size": release.blob.size,
        "yanked": release.yanked is not None,
        "viable": verdicts == {"viable"},
        "verdict": next((verdict for verdict in _WORST_FIRST if verdict in verdicts), None),
    }


@dataclass(frozen=True)
class _Part:
    """A part of a condition: the kind of its value, and a function from a row to the value."""

    kind: FieldKind
    value: Callable[[Row], Value]
    varies: bool = True


def _constant(kind: FieldKind, value: Value) -> _Part:
    return _Part(kind, lambda _: value, varies=False)


class _Reader:
    """Compiler of a condition's text to a function of a row."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()

    def condition(self) -> Callable[[Row], Value]:
        return self._flag(self._tree(), 0).value

    def _tree(self) -> ast.expr:
        """Parse the text as a Python expression, which builds objects and executes nothing."""
        if len(self.text) > MAX_QUERY:
            raise self._bad(f"{len(self.text)} characters", expected=f"at most {MAX_QUERY}")
        if sum(map(self.text.count, "([{")) > MAX_DEPTH:
            raise self._bad("more parentheses", expected=f"at most {MAX_DEPTH} pairs")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # "1if" and "\d" only warn
                return ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            raise self._bad(error.msg, where=None if error.offset is None else f"column {error.offset}") from error
        except (ValueError, RecursionError, MemoryError) as error:  # such as a NUL, a lone surrogate, or 400 minus signs
            raise self._bad(f"{type(error).__name__}: {error}") from error

    def _part(self, node: ast.expr, depth: int) -> _Part:
        if depth > MAX_DEPTH:
            raise self._bad("more", node, expected=f"at most {MAX_DEPTH} nested operators")
        match node:
            case ast.Name(id=name):
                return self._field(name, node)
            case ast.Constant(value=bool() as flag):
                return _constant("flag", flag)
            case ast.Constant(value=(int() | float()) as number):
                return _constant("number", number)
            case ast.Constant(value=str() as text):
                return _constant("text", text)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=(int() | float()) as number)) if (
                type(number) is not bool
            ):
                return _constant("number", -number)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                part = self._flag(operand, depth + 1)
                return _Part("flag", lambda row: not part.value(row))
            case ast.BoolOp(op=op, values=values):
                parts = [self._flag(value, depth + 1) for value in values]
                together = all if isinstance(op, ast.And) else any
                return _Part("flag", lambda row: together(part.value(row) for part in parts))
            case ast.Compare():
                return self._comparison(node, depth)
        raise self._bad(self._piece(node), node, expected="fields, numbers, texts, comparisons, and, or, not")

    def _flag(self, node: ast.expr, depth: int) -> _Part:
        part = self._part(node, depth)
        if part.kind != "flag":
            raise self._bad(f"a {part.kind}: {self._piece(node)}", node, expected="a comparison or a flag")
        return part

    def _field(self, name: str, node: ast.expr) -> _Part:
        if name not in FIELDS:
            fields = f"The fields are {', '.join(sorted(FIELDS))}; a text needs quotes."
            raise self._bad(name, node, expected="a field", remedy=did_you_mean(name, [*FIELDS, "True", "False"], fields))
        return _Part(FIELDS[name], lambda row: row[name])

    def _comparison(self, node: ast.Compare, depth: int) -> _Part:
        """Compile a comparison; ``a < b < c`` is ``a < b and b < c``."""
        nodes = [node.left, *node.comparators]
        links = [self._link(left, op, right, depth + 1) for left, op, right in zip(nodes, node.ops, nodes[1:], strict=False)]
        return _Part("flag", lambda row: all(link(row) for link in links))

    def _link(self, left: ast.expr, op: ast.cmpop, right: ast.expr, depth: int) -> Callable[[Row], bool]:
        one = self._part(left, depth)
        if isinstance(op, ast.In | ast.NotIn):
            known, inside = self._literals(right, one.kind, depth), isinstance(op, ast.In)
            return lambda row: (value := one.value(row)) is not None and (value in known) == inside
        two = self._part(right, depth)
        compare = _SAME.get(type(op)) or (_ORDER.get(type(op)) if one.kind == "number" else None)
        if compare is None or one.kind != two.kind:
            found = f"{one.kind} and {two.kind}: {self._piece(left)} and {self._piece(right)}"
            raise self._bad(found, right, expected="== or != between values of one kind, or an order between two numbers")
        return lambda row: (a := one.value(row)) is not None and (b := two.value(row)) is not None and compare(a, b)

    def _literals(self, node: ast.expr, kind: FieldKind, depth: int) -> set[Value]:
        if not isinstance(node, ast.Tuple | ast.List):
            raise self._bad(self._piece(node), node, expected="a list such as (4, 16)")
        parts = [self._part(item, depth) for item in node.elts]
        if any(part.kind != kind or part.varies for part in parts):
            raise self._bad(self._piece(node), node, expected=f"a list of literal {kind}s")
        return {part.value({}) for part in parts}

    def _piece(self, node: ast.expr) -> str:
        return repr((ast.get_source_segment(self.text, node) or "")[:80])

    def _bad(
        self,
        found: str,
        node: ast.expr | None = None,
        *,
        expected: str | None = None,
        where: object = None,
        remedy: str | None = None,
    ) -> InputError:
        return InputError(
            "invalid condition on cells",
            code="WHERE",
            expected=expected,
            found=found,
            where=where if node is None else f"column {node.col_offset + 1}",
            remedy=remedy or f"An example of a condition is {EXAMPLE}.",
        )
