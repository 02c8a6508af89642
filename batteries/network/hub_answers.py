"""Parsing of the Hub's answers about a repository: revisions, pages of files, and single fields."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Literal
from urllib.parse import quote, unquote

from batteries.errors import FormatError
from batteries.io import canonical_json
from batteries.io.atomic_files import Data
from batteries.network.hub_environment import ENDPOINT_VARIABLE
from batteries.network.transport import Answer

MAX_ANSWER = 2**24  # bytes of one answer about a repository

COMMIT = re.compile(r"[0-9a-f]{40}")
_NEXT = re.compile(r'<[^<>]*[?&]cursor=([^<>&#]+)[^<>]*>\s*;\s*rel="?next"?')


@dataclass(frozen=True)
class Resolved:
    """Commit that a revision names.

    Attributes:
        commit: Commit hash of 40 hexadecimal digits.
        kind: Sort of revision: a branch, which moves; a tag, which should not; or any other.
    """

    commit: str
    kind: Literal["branch", "tag", "other"]


@dataclass(frozen=True)
class Entry:
    """File of a repository.

    Attributes:
        path: Path as given by the server, which must never be used as a path on this machine.
        size: Size in bytes.
        digest: SHA-256 of a file that the Hub stores outside git, or SHA-1 of the git object of any other.
    """

    path: str
    size: int
    digest: str

    @classmethod
    def of(cls, path: str, data: Data) -> Entry:
        """Make the entry of these bytes."""
        return cls(path, len(data), canonical_json.sha256(data))

    def holds(self, data: Data) -> bool:
        """Return True if the file has these bytes, according to the server's size and digest."""
        if self.size != len(data):
            return False
        if len(self.digest) == 64:
            return self.digest == canonical_json.sha256(data)
        own = sha1(b"blob %d\0" % len(data))
        own.update(data)
        return self.digest == own.hexdigest()


def entries(answer: Answer, url: str) -> list[Entry]:
    """Return the files on one page of a tree.

    Raises:
        FormatError: unexpected answer (``HUB_ANSWER``).
    """
    page = canonical_json.load(answer.body, where=url, limit=MAX_ANSWER)
    if not isinstance(page, list):
        raise _bad_answer("a list of files", url)
    return [_entry(item, url) for item in page if field(item, "type", str, url) == "file"]


def _entry(item: Any, url: str) -> Entry:
    kept = item.get("lfs") or item
    return Entry(field(item, "path", str, url), field(kept, "size", int, url), field(kept, "oid", str, url))


def next_page(answer: Answer) -> str | None:
    """Return the cursor of the next page, the only part used of the address given by the server."""
    link = _NEXT.search(answer.headers.get("link", ""))
    return f"&cursor={quote(unquote(link[1]), safe='')}" if link else None


def commit(item: Any, name: str, url: str) -> str:
    """Return the commit in a field.

    Raises:
        FormatError: missing field, or not a commit (``HUB_ANSWER``).
    """
    found: str = field(item, name, str, url)
    if not COMMIT.fullmatch(found):
        raise _bad_answer(f"{name}: a commit of 40 hexadecimal digits", url)
    return found


def field(item: Any, name: str, kind: type, url: str) -> Any:
    """Return a field of an answer.

    Raises:
        FormatError: field missing, or of another type (``HUB_ANSWER``).
    """
    value = item.get(name) if isinstance(item, dict) else None
    if not isinstance(value, kind):
        raise _bad_answer(f"{name}: {kind.__name__}", url)
    return value


def _bad_answer(expected: str, url: str) -> FormatError:
    remedy = f"Check {ENDPOINT_VARIABLE}, and any proxy between this machine and the Hub."
    return FormatError("unexpected answer from the Hub", code="HUB_ANSWER", expected=expected, where=url, remedy=remedy)
