"""Detection of stand-ins for a file: pointers left by git, HTML pages of a login, compressed files.

No format of this package starts like a pointer or a page: JSON starts with a bracket, safetensors with the size of a header.
So these are refused wherever a file is read. Compression is reported only for a file that could not be parsed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from batteries.errors import FormatError

LOOKED_AT = 512  # first bytes examined


@dataclass(frozen=True)
class Placeholder:
    """Stand-in for a file.

    Attributes:
        code: Code of the error.
        words: Name in messages.
        start: Pattern of the first bytes.
        remedy: Advice on getting the file itself.
    """

    code: str
    words: str
    start: re.Pattern[bytes]
    remedy: str


ANNEX = Placeholder(
    "ANNEX_POINTER",
    "git-annex pointer",
    re.compile(rb"/annex/objects/[^\n]{1,400}\n?|\.\.?/[./]*\.git/annex/objects/"),
    "Run `git annex get` in that checkout: git has the pointer, not the file.",
)
POINTERS = (
    Placeholder(
        "LFS_POINTER",
        "Git LFS pointer",
        re.compile(rb"version https://(git-lfs\.github\.com|hawser\.github\.com)/spec/"),
        "Run `git lfs install` and `git lfs pull` in that checkout: git has the pointer, not the file.",
    ),
    Placeholder(
        "XET_POINTER",
        "Xet pointer",
        re.compile(rb"# xet version "),
        "Run `git xet install` and `git checkout` again, or fetch the file from the Hub.",
    ),
    ANNEX,
    Placeholder(
        "HTML_PAGE",
        "HTML page",
        re.compile(
            rb"\s*+(?:<\?xml[^>]*+>\s*+)?(?:<!--(?:(?!-->).)*+-->\s*+)*+<(?:!doctype\s+html|html|head|body)\b",
            re.IGNORECASE | re.DOTALL,
        ),
        "A login or an error was saved in its place: fetch the file again from its own address.",
    ),
)
COMPRESSED = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)


def refuse(data: bytes | memoryview, where: object) -> None:
    """Refuse a pointer or a page in place of a file.

    Raises:
        FormatError: ``LFS_POINTER``, ``XET_POINTER``, ``ANNEX_POINTER`` or ``HTML_PAGE``.
    """
    start = bytes(data[:LOOKED_AT]).removeprefix(b"\xef\xbb\xbf")
    for one in POINTERS:
        if one.start.match(start):
            raise _error(one, where)


def refuse_link(path: Path) -> None:
    """Refuse a link into the objects of git-annex, which leads nowhere until they are fetched.

    Raises:
        FormatError: such a link (``ANNEX_POINTER``).
    """
    try:
        target = str(path.readlink())
    except (OSError, ValueError):
        return
    if ".git/annex/objects/" in target.replace(os.sep, "/"):
        raise _error(ANNEX, path)


def refuse_unreadable(data: bytes | memoryview, where: object) -> None:
    """Refuse bytes that could not be parsed and whose start shows the reason.

    Raises:
        FormatError: any error of :func:`refuse`, or ``COMPRESSED``.
    """
    refuse(data, where)
    start = bytes(data[:LOOKED_AT])
    for magic, name in COMPRESSED:
        if start.startswith(magic):
            what = f"compressed file ({name})"
            raise FormatError(what, code="COMPRESSED", expected="the file itself", where=where, remedy="Unpack it first.")


def words_of(path: Path) -> str | None:
    """Return the name of the stand-in found at an unreadable path, with the remedy; None if it is not a known one."""
    try:
        with path.open("rb") as file:
            refuse_unreadable(file.read(LOOKED_AT), path)
    except FormatError as error:
        return f"{error.what}. {error.remedy}"
    except OSError:
        pass
    return None


def _error(one: Placeholder, where: object) -> FormatError:
    return FormatError(
        f"{one.words} in place of the file", code=one.code, expected="the file itself", where=where, remedy=one.remedy
    )
