"""The only parser of references: ``[registry/]band/name[@version]`` or ``[registry/]band/name@sha256:<64 hex digits>``.

The version may also be a range, as in ``low/fresnel-256@^1``. Artifacts of other kinds have the kind in place of the band:
``model/trio@1.0.0``, ``maps/low-johanna``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import BeforeValidator, InstanceOf, PlainSerializer, WithJsonSchema
from semver import Version

from batteries.cell.artifact_kinds import ArtifactKind
from batteries.cell.manifest import NAME_FORM, is_name
from batteries.errors import InputError
from batteries.io.canonical_json import DIGEST
from batteries.text import did_you_mean
from registry.catalog.kinds import CELL, FOLDERS, kind_of_folder
from registry.catalog.version_ranges import Range

FORM = "[registry/]band/name[@version] or [registry/]band/name@sha256:<64 hex digits>"
EXAMPLE = "low/fresnel-256@1.0.0"
PIN = "sha256:"
WILD = frozenset("*?[")
VERSION_FORM = "an exact semantic version in lower case, such as 1.0.0, or a range such as ^1, ~1.2, 1.2 or >=1.1,<2"

# lower case only: 1.0.0-RC and 1.0.0-rc would be one file where the file system ignores case
_VERSION = re.compile(r"[0-9][0-9a-z.+-]{0,63}")


@dataclass(frozen=True)
class Reference:
    """A reference to an artifact. Equal texts give equal objects; ``str`` gives the text, with ranges in canonical spelling.

    Attributes:
        registry: Name from the configuration file; None means the default registry.
        band: Band (low, mid, high, open or off), or the name of another kind, such as ``model``.
        name: Name within the band or kind.
        version: Exact semantic version. Without a version, digest or range, the newest is meant.
        digest: SHA-256 of the file, in place of a version.
        range: Range of versions, in place of an exact version.

    Raises:
        InputError: invalid part, which the message names (``BAD_REFERENCE``).

    >>> import registry
    >>> reference = registry.Reference.parse("low/fresnel-256@1.2.0")
    >>> reference.path, reference.version, str(reference.at("1.3.0"))
    ('low/fresnel-256', '1.2.0', 'low/fresnel-256@1.3.0')
    """

    registry: str | None
    band: str
    name: str
    version: str | None = None
    digest: str | None = None
    range: Range | None = None

    def __post_init__(self) -> None:
        if self.registry is not None and not is_name(self.registry):
            raise _bad("registry", "a name from the configuration file", self.registry)
        if self.band not in FOLDERS:
            raise _bad("band", " | ".join(FOLDERS), self.band, did_you_mean(self.band, FOLDERS, ""))
        if not is_name(self.name):
            raise _bad("name", NAME_FORM, self.name)
        pins = [str(pin) for pin in (self.version, self.digest, self.range) if pin is not None]
        if len(pins) > 1:
            raise _bad("pin", "a version, a digest or a range", " and ".join(pins))
        if self.version is not None and not is_version(self.version):
            raise _bad("version", VERSION_FORM, self.version)
        if self.digest is not None and not DIGEST.fullmatch(self.digest):
            raise _bad("digest", "64 lowercase hexadecimal digits", self.digest)

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse a reference.

        Raises:
            InputError: invalid reference; the message names the invalid part and shows the form (``BAD_REFERENCE``).

        >>> Reference.parse("lab/low/fresnel-256@1.2.0")
        Reference(registry='lab', band='low', name='fresnel-256', version='1.2.0', digest=None, range=None)
        >>> str(Reference.parse("high/johanna-64@>=1.1, <2"))
        'high/johanna-64@>=1.1,<2'
        """
        path, at, pin = text.partition("@")
        parts = path.split("/")
        if len(parts) not in (2, 3):
            raise _bad("path", "band/name or registry/band/name", path)
        registry = parts[0] if len(parts) == 3 else None
        band, name = parts[-2:]
        if not at:
            return cls(registry, band, name)
        if pin.startswith(PIN):
            return cls(registry, band, name, digest=pin.removeprefix(PIN))
        if is_version(pin):
            return cls(registry, band, name, version=pin)
        return cls(registry, band, name, range=_range(pin))

    @property
    def path(self) -> str:
        """``band/name``."""
        return f"{self.band}/{self.name}"

    @property
    def kind(self) -> ArtifactKind:
        """Kind of the artifact."""
        kind = kind_of_folder(self.band)
        assert kind is not None, "the band was checked"
        return kind

    def at(self, version: str) -> Reference:
        """Return this reference at an exact version."""
        return replace(self, version=version, digest=None, range=None)

    def __str__(self) -> str:
        prefix = "" if self.registry is None else f"{self.registry}/"
        if self.digest is not None:
            return f"{prefix}{self.path}@{PIN}{self.digest}"
        pin = self.version if self.range is None else self.range
        return f"{prefix}{self.path}" if pin is None else f"{prefix}{self.path}@{pin}"


def _read(value: Any) -> Any:
    return Reference.parse(value) if isinstance(value, str) else value


ReferenceText = Annotated[  # a reference that is text in a document
    InstanceOf[Reference], BeforeValidator(_read), PlainSerializer(str), WithJsonSchema({"type": "string"})
]


@dataclass(frozen=True)
class NamePattern:
    """Pattern over names, as ``low/*`` or ``lab/*/fresnel-*@^1``: the wild cards of a shell, ``*``, ``?`` and ``[...]``.

    Attributes:
        registry: A name from the configuration file; None means the registry in force.
        path: Pattern of ``band/name``.
        version: Exact version of every match, in place of the newest.
        range: Versions that a match may have, in place of one.

    Raises:
        InputError: a registry that is no name, or a digest in place of versions (``BAD_REFERENCE``).
    """

    registry: str | None
    path: str
    version: str | None = None
    range: Range | None = None

    @classmethod
    def parse(cls, text: str) -> NamePattern:
        """Read a pattern.

        Raises:
            InputError: not a pattern (``BAD_REFERENCE``).

        >>> NamePattern.parse("lab/low/*@1.0.0")
        NamePattern(registry='lab', path='low/*', version='1.0.0', range=None)
        """
        path, at, pin = text.partition("@")
        registry, *_ = path.split("/") if path.count("/") == 2 else (None,)
        if registry is not None and not is_name(registry):
            raise _bad("registry", "a name from the configuration file", registry)
        if path.count("/") > 2:
            raise _bad("path", "a pattern of band/name", path)
        if pin.startswith(PIN):
            raise _bad("pin", "a version or a range after a pattern", pin)
        path = path if registry is None else path.partition("/")[2]
        if not at or is_version(pin):
            return cls(registry, path, pin or None)
        return cls(registry, path, range=_range(pin))

    @property
    def kind(self) -> ArtifactKind:
        """Kind of the matches: named in place of the band, as in ``model/*``, else the cell.

        >>> [NamePattern.parse(text).kind.name for text in ("*", "low/*", "*/fresnel-*", "model/*")]
        ['cell', 'cell', 'cell', 'model']
        """
        folder, slash, _ = self.path.partition("/")
        return (kind_of_folder(folder) if slash else None) or CELL

    def matches(self, path: str) -> bool:
        """Return whether the pattern fits ``band/name``."""
        return fnmatchcase(path, self.path)

    def __str__(self) -> str:
        prefix = "" if self.registry is None else f"{self.registry}/"
        pin = self.version if self.range is None else self.range
        return f"{prefix}{self.path}" if pin is None else f"{prefix}{self.path}@{pin}"


def is_pattern(text: object) -> bool:
    """Return whether a text has wild cards in front of its version.

    >>> [is_pattern(text) for text in ("low/*", "low/fresnel-64@^1", None)]
    [True, False, False]
    """
    return isinstance(text, str) and not WILD.isdisjoint(text.partition("@")[0])


def is_version(text: str) -> bool:
    """Return whether a text is an exact semantic version that can be a file name on every file system.

    >>> [is_version(text) for text in ("1.2.0", "1.0.0-rc.1", "1.0", "v1.0.0", "1.0.0-RC.1")]
    [True, True, False, False, False]
    """
    return _VERSION.fullmatch(text) is not None and Version.is_valid(text)


def _range(text: str) -> Range:
    try:
        return Range.parse(text)
    except InputError as error:
        raise _bad("version", VERSION_FORM, text) from error


def _bad(part: str, expected: str, found: str, hint: str = "") -> InputError:
    return InputError(
        f"invalid {part} in a reference",
        code="BAD_REFERENCE",
        expected=expected,
        found=repr(found[:80]),
        remedy=f"{hint} A reference is {FORM}, such as {EXAMPLE}.".lstrip(),
    )
