"""The only parser of a reference: ``[registry/]band/name[@version]`` or ``[registry/]band/name@sha256:<64 hex digits>``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from semver import Version

from batteries.canonical import DIGEST
from batteries.errors import InputError
from batteries.manifest import BANDS, is_name

FORM = "[registry/]band/name[@version] or [registry/]band/name@sha256:<64 hex digits>"
EXAMPLE = "low/fresnel-256@1.0.0"
PIN = "sha256:"

# lower case only: 1.0.0-RC and 1.0.0-rc would be one file where the file system ignores case
_VERSION = re.compile(r"[0-9][0-9a-z.+-]{0,63}")


@dataclass(frozen=True)
class Reference:
    """A cell, named. Equal text, equal object; ``str`` gives the text back.

    Attributes:
        registry: A name from the configuration file; None means the registry in force.
        band: One of low, mid, high, open.
        name: The cell's name within its band.
        version: An exact semantic version; None means the newest.
        digest: SHA-256 of the weights' file, in place of a version.

    Raises:
        InputError: a part that cannot be in a reference, named (``BAD_REFERENCE``).
    """

    registry: str | None
    band: str
    name: str
    version: str | None = None
    digest: str | None = None

    def __post_init__(self) -> None:
        if self.registry is not None and not is_name(self.registry):
            raise _bad("the registry", "a name from the configuration file", self.registry)
        if self.band not in BANDS:
            raise _bad("the band", " | ".join(BANDS), self.band)
        if not is_name(self.name):
            raise _bad("the name", "1 to 64 of a-z, 0-9, '.', '_', '-', with a letter or digit at both ends", self.name)
        if self.version is not None and self.digest is not None:
            raise _bad("the pin", "a version or a digest", f"{self.version} and {self.digest}")
        if self.version is not None and not is_version(self.version):
            raise _bad("the version", "an exact semantic version in lower case, such as 1.0.0", self.version)
        if self.digest is not None and not DIGEST.fullmatch(self.digest):
            raise _bad("the digest", "64 lowercase hexadecimal digits", self.digest)

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference.

        Raises:
            InputError: not a reference; the message names the part that is wrong and shows the form.

        >>> Reference.parse("lab/low/fresnel-256@1.2.0")
        Reference(registry='lab', band='low', name='fresnel-256', version='1.2.0', digest=None)
        >>> str(Reference.parse("high/johanna-64"))
        'high/johanna-64'
        """
        path, at, pin = text.partition("@")
        parts = path.split("/")
        if len(parts) not in (2, 3):
            raise _bad("the path", "band/name or registry/band/name", path)
        registry = parts[0] if len(parts) == 3 else None
        band, name = parts[-2:]
        if not at:
            return cls(registry, band, name)
        if pin.startswith(PIN):
            return cls(registry, band, name, digest=pin.removeprefix(PIN))
        return cls(registry, band, name, version=pin)

    @property
    def path(self) -> str:
        """``band/name``."""
        return f"{self.band}/{self.name}"

    def at(self, version: str) -> Reference:
        """The same cell at an exact version."""
        return replace(self, version=version, digest=None)

    def __str__(self) -> str:
        prefix = "" if self.registry is None else f"{self.registry}/"
        if self.digest is not None:
            return f"{prefix}{self.path}@{PIN}{self.digest}"
        return f"{prefix}{self.path}" if self.version is None else f"{prefix}{self.path}@{self.version}"


def is_version(text: str) -> bool:
    """Whether a text is an exact semantic version that every file system can hold.

    >>> [is_version(text) for text in ("1.2.0", "1.0.0-rc.1", "1.0", "v1.0.0", "1.0.0-RC.1")]
    [True, True, False, False, False]
    """
    return _VERSION.fullmatch(text) is not None and Version.is_valid(text)


def is_path(text: str) -> bool:
    """Whether a text is ``band/name``.

    >>> is_path("low/fresnel-256"), is_path("blue/fresnel-256")
    (True, False)
    """
    band, _, name = text.partition("/")
    return band in BANDS and is_name(name)


def _bad(part: str, expected: str, found: str) -> InputError:
    return InputError(
        f"not a reference: {part}",
        code="BAD_REFERENCE",
        expected=expected,
        found=repr(found[:80]),
        remedy=f"A reference is {FORM}, such as {EXAMPLE}.",
    )
