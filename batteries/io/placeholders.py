"""Bytes that stand for a file and are not it: pointers that git left, pages that a login sent, what is compressed.

None of our formats can start as a pointer or a page does: JSON starts with a bracket, safetensors with the size of a header.
So these are refused wherever a file is read. What is compressed is only named where it could not be read anyway.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from batteries.errors import FormatError

LOOKED_AT = 512  # bytes


@dataclass(frozen=True)
class Placeholder:
    """What stands in the place of a file.

    Attributes:
        code: Of the error.
        words: Its name.
        start: Matches its first bytes.
        remedy: How to come by the file.
    """

    code: str
    words: str
    start: re.Pattern[bytes]
    remedy: str


ANNEX = Placeholder(
    "ANNEX_POINTER",
    "a git-annex pointer",
    re.compile(rb"/annex/objects/[^\n]{1,400}\n?|\.\.?/[./]*\.git/annex/objects/"),
    "Run `git annex get` in that checkout: git has the pointer, not the file.",
)
POINTERS = (
    Placeholder(
        "LFS_POINTER",
        "a Git LFS pointer",
        re.compile(rb"version https://(git-lfs\.github\.com|hawser\.github\.com)/spec/"),
        "Run `git lfs install` and `git lfs pull` in that checkout: git has the pointer, not the file.",
    ),
    Placeholder(
        "XET_POINTER",
        "a Xet pointer",
        re.compile(rb"# xet version "),
        "Run `git xet install` and `git checkout` again, or fetch the file from the Hub.",
    ),
    ANNEX,
    Placeholder(
        "HTML_PAGE",
        "an HTML page",
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
    """Refuse a pointer or a page in the place of a file.

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
        FormatError: it is one (``ANNEX_POINTER``).
    """
    try:
        target = str(path.readlink())
    except (OSError, ValueError):
        return
    if ".git/annex/objects/" in target.replace(os.sep, "/"):
        raise _error(ANNEX, path)


def refuse_unreadable(data: bytes | memoryview, where: object) -> None:
    """Say what bytes are that cannot be read, where that is plain from their start.

    Raises:
        FormatError: as :func:`refuse`, and ``COMPRESSED``.
    """
    refuse(data, where)
    start = bytes(data[:LOOKED_AT])
    for magic, name in COMPRESSED:
        if start.startswith(magic):
            what = f"a compressed file ({name})"
            raise FormatError(what, code="COMPRESSED", expected="the file itself", where=where, remedy="Unpack it first.")


def words_of(path: Path) -> str | None:
    """What stands in the place of a file that could not be read, with the remedy; None where nothing known does."""
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
        f"{one.words} in the place of the file", code=one.code, expected="the file itself", where=where, remedy=one.remedy
    )
