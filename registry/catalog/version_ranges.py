"""Ranges of semantic versions: ``^1``, ``~1.2``, ``1``, ``1.2``, ``>=1.1,<2``.

Their meaning is that of npm, and of Cargo where the two agree: a bare ``1.2`` is any 1.2.x, as in npm. All terms must hold.
A prerelease is in a range only if a term names a prerelease of the same three numbers: ``^1`` excludes ``1.5.0-rc.1``, and
``>=1.5.0-rc.1`` includes ``1.5.0-rc.2``. An exact version is not a range.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from semver import Version

from batteries.errors import InputError

MAX_RANGE = 200  # characters

_NUMBER = r"(?:0|[1-9][0-9]*)"
_TERM = re.compile(rf"(\^|~|>=|>|<=|<)? *({_NUMBER}(?:\.{_NUMBER}){{0,2}})(?:-([0-9a-z.-]{{1,64}}))?")
_LEAST = "0"  # lowest prerelease


@dataclass(frozen=True)
class Term:
    """One condition on a version.

    Attributes:
        operator: Comparison ``^ ~ >= > <= <``; empty for any version that starts with these numbers.
        numbers: Major, minor and patch numbers, at least the first.
        prerelease: Prerelease, only with three numbers.
    """

    operator: str
    numbers: tuple[int, ...]
    prerelease: str | None = None

    def __str__(self) -> str:
        suffix = "" if self.prerelease is None else f"-{self.prerelease}"
        return f"{self.operator}{'.'.join(map(str, self.numbers))}{suffix}"

    @property
    def bounds(self) -> tuple[Version, Version | None]:
        """First version that matches, and the first after it that does not; None if all later ones match."""
        written = _version(self.numbers, self.prerelease)
        whole = len(self.numbers) == 3
        last = len(self.numbers) - 1
        match self.operator:
            case ">=":
                return written, None
            case ">":
                return (_successor(written) if whole else _version(_raised(self.numbers, last))), None
            case "<":
                return _version((0,), _LEAST), written if whole else _version(self.numbers, _LEAST)
            case "<=":
                after = _successor(written) if whole else _version(_raised(self.numbers, last), _LEAST)
                return _version((0,), _LEAST), after
            case "^":
                place = next((place for place, number in enumerate(self.numbers) if number), last)
            case "~":
                place = min(last, 1)
            case _:
                place = last
        return written, _version(_raised(self.numbers, place), _LEAST)


@dataclass(frozen=True)
class Range:
    """Versions for which every term holds; ``str`` gives the canonical spelling, without spaces.

    Attributes:
        terms: Conditions, at least one, in the order written.
    """

    terms: tuple[Term, ...]

    @classmethod
    def parse(cls, text: str) -> Range:
        """Parse a range: terms separated by commas.

        Raises:
            InputError: invalid range (``BAD_RANGE``).

        >>> str(Range.parse(">= 1.1, <2"))
        '>=1.1,<2'
        >>> [version for version in ("1.2.0", "1.9.9", "2.0.0", "1.3.0-rc.1") if Range.parse("^1.2").allows(version)]
        ['1.2.0', '1.9.9']
        """
        if len(text) > MAX_RANGE:
            raise _bad(f"{len(text)} characters")
        return cls(tuple(_term(part.strip(" ")) for part in text.split(",")))

    def allows(self, version: str) -> bool:
        """Return whether an exact version is in this range, ignoring build metadata."""
        found = Version.parse(version)
        if found.prerelease is not None and not self._names_prerelease_of(found):
            return False
        bounds = [term.bounds for term in self.terms]
        return all(first <= found and (after is None or found < after) for first, after in bounds)

    def _names_prerelease_of(self, version: Version) -> bool:
        numbers = (version.major, version.minor, version.patch)
        return any(term.prerelease is not None and term.numbers == numbers for term in self.terms)

    def __str__(self) -> str:
        return ",".join(map(str, self.terms))


def _term(text: str) -> Term:
    match = _TERM.fullmatch(text)
    if match is None:
        raise _bad(repr(text))
    operator, numbers, prerelease = match[1] or "", tuple(map(int, match[2].split("."))), match[3]
    if prerelease is not None and not (len(numbers) == 3 and Version.is_valid(f"{match[2]}-{prerelease}")):
        raise _bad(repr(text))
    if not operator and len(numbers) == 3:
        raise _bad(f"an exact version, {text!r}")
    return Term(operator, numbers, prerelease)


def _version(numbers: tuple[int, ...], prerelease: str | None = None) -> Version:
    major, minor, patch = (*numbers, 0, 0)[:3]
    return Version(major, minor, patch, prerelease)


def _raised(numbers: tuple[int, ...], place: int) -> tuple[int, ...]:
    """Increment the number at a place and drop those after it."""
    return (*numbers[:place], numbers[place] + 1)


def _successor(version: Version) -> Version:
    """Return the next version: nothing lies between 1.2.3 and 1.2.4-0, nor between 1.2.3-rc.1 and 1.2.3-rc.1.0."""
    if version.prerelease is not None:
        return version.replace(prerelease=f"{version.prerelease}.{_LEAST}")
    return _version((version.major, version.minor, version.patch + 1), _LEAST)


def _bad(found: str) -> InputError:
    return InputError(
        "invalid version range",
        code="BAD_RANGE",
        expected="comma-separated terms such as ^1, ~1.2, 1.2, >=1.1 or <2",
        found=found[:80],
    )
