"""Ablation programs as data: groups of variants, each for some bands, in one TOML file. Does not import torch.

A program has the options of ``batteries train`` that all its runs share, those of each band, and those in which the variants
of a group differ; a later table wins, field by field of ``set``::

    name = "mine"
    title = "Two rates"
    base = { noise = "batteries", batch = 32, steps = 200 }
    [bands]
    high = { preset = "high" }
    [[groups]]
    id = "R"
    title = "Rate"
    [groups.variants]
    slow = { rate = 1e-4 }
    wide = { set = { hidden = 96 } }
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from batteries.errors import FormatError, InputError, NotFoundError
from batteries.io import atomic_files
from batteries.io.canonical_json import Document, fields_of
from batteries.io.texts import toml_text

SUFFIX = ".toml"
MAX_PROGRAM = 2**20
MAX_RUNS = 2**12  # a plan, the facts of its data and a digest are made of each before the first begins: 1 ms a run
FORBIDDEN = {
    "reference",
    "start",
    "teacher",
    "distil",
    "allow_probe_photos",
    "rows",
    "hidden",
}  # a run has its own name, and starts untrained

Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,40}$")]  # also the name of a folder
Options = dict[str, Any]


class Group(Document):
    """A question, asked by runs that differ in one thing.

    Attributes:
        id: Letter or word that the group is chosen by.
        title: Subject of the group.
        variants: Options of each variant, in place of the base's and the band's.
        bands: Bands of the group; by default all of the program.
        ours: Whether the group is an addition to the program's source.
        chosen: Choices that the source leaves open, as made here, by variant.
        note: Remark about the group.
        matched: Published share of runs in their band.
        published: Published CV by variant and band.
    """

    id: Word
    title: str
    variants: Annotated[dict[Word, Options], Field(min_length=1)]
    bands: tuple[Word, ...] = ()
    ours: bool = False
    chosen: dict[Word, str] = Field(default_factory=dict)
    note: str = ""
    matched: Annotated[float, Field(ge=0, le=1)] | None = None
    published: dict[Word, dict[Word, float]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_known(self) -> Group:
        for table in (self.chosen, self.published):
            if stray := table.keys() - self.variants.keys():
                raise ValueError(f"not a variant of group {self.id}: {', '.join(sorted(stray))}")
        _refuse_alike("band", self.bands)
        _refuse_alike("variant", self.variants)
        return self


class Program(Document):
    """An ablation program.

    Attributes:
        name: Name of the program, which its results carry.
        title: Title of its page.
        source: Publication or question that it comes from.
        base: Options of every run.
        bands: Options of each band, by name; a name is a preset's, unless its options have a ``preset``.
        groups: Groups, in order.
        readings: Readings along a run, evenly spaced, the last at its end; one more or less where they do not divide the steps.
    """

    name: Word
    title: str
    source: str = ""
    base: Options = Field(default_factory=dict)
    bands: Annotated[dict[Word, Options], Field(min_length=1)]
    groups: Annotated[tuple[Group, ...], Field(min_length=1)]
    readings: Annotated[int, Field(ge=1, le=1000)] = 4

    @model_validator(mode="after")
    def _consistent(self) -> Program:
        _refuse_alike("group", [group.id for group in self.groups])
        _refuse_alike("band", self.bands)
        for group in self.groups:
            named = {*group.bands, *(band for figures in group.published.values() for band in figures)}
            if stray := named - self.bands.keys():
                raise ValueError(f"group {group.id} names no band of the program: {', '.join(sorted(stray))}")
        if (count := sum(len(group.variants) * len(group.bands or self.bands) for group in self.groups)) > MAX_RUNS:
            raise ValueError(f"{count:,} runs, more than {MAX_RUNS:,}")
        for options in self._tables():
            if stray := FORBIDDEN & options.keys():
                raise ValueError(f"options that a program cannot have: {', '.join(sorted(stray))}")
            if type(options.get("set", {})) is not dict:
                raise ValueError("set must be a table of fields of a spec, as set = { D = 32 }")
        return self

    def _tables(self) -> Iterator[Options]:
        yield from (self.base, *self.bands.values())
        yield from (options for group in self.groups for options in group.variants.values())

    def options_of(self, group: Group, variant: str, band: str) -> Options:
        """Return the options of a run: the base's, the band's and the variant's, with ``set`` merged field by field."""
        tables = (self.base, self.bands[band], group.variants[variant])
        fields: dict[str, Any] = {}
        for table in tables:
            fields |= table.get("set", {})
        return {key: value for table in tables for key, value in table.items()} | ({"set": fields} if fields else {})

    def chosen(self, groups: tuple[str, ...] = (), bands: tuple[str, ...] = ()) -> list[tuple[Group, tuple[str, ...]]]:
        """Return groups with their bands, of those named; none named stands for all.

        Raises:
            InputError: no group (``NO_GROUP``) or band (``NO_BAND``) of that name, or none of the bands in any of the groups.
        """
        for code, named, known in (
            ("NO_GROUP", groups, [group.id for group in self.groups]),
            ("NO_BAND", bands, list(self.bands)),
        ):
            if stray := [name for name in named if name not in known]:
                what = "group" if code == "NO_GROUP" else "band"
                expected = " | ".join(known)
                raise InputError(f"no such {what}", code=code, expected=expected, found=", ".join(stray), where=self.name)
        found = [
            (group, tuple(band for band in group.bands or self.bands if not bands or band in bands))
            for group in self.groups
            if not groups or group.id in groups
        ]
        if not any(own for _, own in found):
            expected = " | ".join(dict.fromkeys(band for group, _ in found for band in group.bands))
            raise InputError(
                "no such band in these groups", code="NO_BAND", expected=expected, found=", ".join(bands), where=self.name
            )
        return found


def _refuse_alike(what: str, names: Iterable[str]) -> None:
    """Refuse names that are one folder on some systems, and one name in a command."""
    counts = Counter(name.lower().replace("_", "-") for name in names)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ValueError(f"a {what} twice, or two that differ in case or - and _ alone: {', '.join(twice)}")


def names() -> list[str]:
    """Return the names of the programs that come with this package."""
    return sorted(entry.name.removesuffix(SUFFIX) for entry in _folder().iterdir() if entry.name.endswith(SUFFIX))


def read_program(place: str) -> tuple[Program, bytes]:
    """Read a program: one of this package by name, or a file; return it with its text.

    Raises:
        NotFoundError: no program of that name, and no such file (``NO_PROGRAM``).
        FormatError: not TOML (``TOML``, ``TOO_DEEP``, ``TOO_LARGE``), or not a program (``PROGRAM``).
    """
    known = names()
    if place in known:
        return parse(data := (_folder() / f"{place}{SUFFIX}").read_bytes(), where=place), data
    if not place.endswith(SUFFIX):
        raise NotFoundError(
            "no such program",
            code="NO_PROGRAM",
            expected=" | ".join([*known, f"a file *{SUFFIX}"]),
            found=place,
        )
    return parse(data := atomic_files.read(Path(place), limit=MAX_PROGRAM, links=True), where=place), data


def parse(data: bytes, *, where: object) -> Program:
    """Parse the text of a program.

    Raises:
        FormatError: not TOML (``TOML``), or not a program (``PROGRAM``).
    """
    table = toml_text.parse(data, where=where, limit=MAX_PROGRAM)
    try:
        return Program.model_validate(table, strict=False)
    except ValidationError as error:
        raise FormatError("not an ablation program", code="PROGRAM", found=fields_of(error), where=where) from error


def _folder() -> Any:
    return resources.files("batteries.ablation") / "programs"
