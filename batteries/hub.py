"""A repository of the Hugging Face Hub: which commit a revision means, files at a commit, and one commit at a time.

Reading goes through :mod:`batteries.transport` and names a commit: what a branch means is asked once, and never file by file.
Writing goes through :mod:`batteries.hubclient`.
"""

from __future__ import annotations

import os
import re
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha1
from typing import Any, Literal
from urllib.parse import quote, unquote

from batteries import canonical
from batteries.errors import FormatError, InputError, NotFoundError, PolicyError, TransportError
from batteries.files import Data
from batteries.hubclient import HubClient, find_token, refusal
from batteries.transport import Answer, Transport
from batteries.watch import DEFAULT, Limits

ENDPOINT_VARIABLE = "HF_ENDPOINT"
ENDPOINT = "https://huggingface.co"
MAIN = "main"
PATIENCE = 300.0  # seconds for one commit, beside the time that its bytes take
MAX_ANSWER = 2**24  # bytes of one answer about a repository
MAX_FILES = 200_000
MAX_PAGES = 400  # of the list of files; the Hub puts a thousand of them in one

COMMIT = re.compile(r"[0-9a-f]{40}")
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"(?=.{{3,96}}\Z){_PART}/{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,254}")
_NEXT = re.compile(r'<[^<>]*[?&]cursor=([^<>&#]+)[^<>]*>\s*;\s*rel="?next"?')


@dataclass(frozen=True)
class Resolved:
    """What a revision means.

    Attributes:
        commit: 40 hexadecimal digits.
        kind: Whether the revision is a branch, which moves; a tag, which should not; or anything else.
    """

    commit: str
    kind: Literal["branch", "tag", "other"]


@dataclass(frozen=True)
class Entry:
    """A file of a repository.

    Attributes:
        path: Its name, in the server's words: never part of a path on this machine.
        size: In bytes.
        digest: SHA-256 of a file that the Hub keeps apart from git; of any other the SHA-1 of its git object.
    """

    path: str
    size: int
    digest: str

    @classmethod
    def of(cls, path: str, data: Data) -> Entry:
        """The entry that these bytes make."""
        return cls(path, len(data), canonical.sha256(data))

    def holds(self, data: Data) -> bool:
        """Whether the file has these bytes, by what the server says."""
        if self.size != len(data):
            return False
        if len(self.digest) == 64:
            return self.digest == canonical.sha256(data)
        own = sha1(b"blob %d\0" % len(data))
        own.update(data)
        return self.digest == own.hexdigest()


class HubRepository:
    """A model repository at a revision. Safe to share between threads.

    Args:
        repo_id: ``owner/repo``.
        revision: A branch, a tag or a commit; left out, the branch ``main``.
        endpoint: Address of the Hub; left out, ``HF_ENDPOINT`` or the public one.
        token: Left out, the one that huggingface_hub finds.
        limits: What reading one file may take.
        patience: Seconds for one commit, beside the time that its bytes take.

    Raises:
        InputError: what cannot be a repository (``BAD_REPOSITORY``), a revision (``BAD_REVISION``) or an endpoint
            (``BAD_ENDPOINT``).
        PolicyError: an endpoint on another machine without encryption (``INSECURE``).
    """

    def __init__(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        endpoint: str | None = None,
        token: str | None = None,
        limits: Limits = DEFAULT,
        patience: float = PATIENCE,
    ) -> None:
        self.repo_id = _check_repository(repo_id)
        self.revision = _check_revision(MAIN if revision is None else revision)
        self.endpoint = _check_endpoint(endpoint or os.environ.get(ENDPOINT_VARIABLE) or ENDPOINT)
        self._patience = patience
        self._token = token or find_token(self.url)
        self._transport = Transport(origin=self.endpoint, token=self._token, limits=limits)
        weakref.finalize(self, self._transport.close)

    @property
    def url(self) -> str:
        """``hf://owner/repo``, and ``@revision`` where that is not ``main``."""
        return f"hf://{self.repo_id}" if self.revision == MAIN else f"hf://{self.repo_id}@{self.revision}"

    def resolve(self) -> Resolved:
        """Ask which commit the revision means now; of a commit nothing is asked.

        Raises:
            NotFoundError: no such repository (``NO_REGISTRY``) or revision (``NO_REVISION``).
            PolicyError: not ours to read (``DENIED``).
            FormatError: an answer that is not the Hub's (``HUB_ANSWER``).
            TransportError: the network.
        """
        if COMMIT.fullmatch(self.revision):
            return Resolved(self.revision, "other")
        if self.revision != MAIN:
            refs = self._ask("refs")
            tags, branches = (_field(refs, name, list, self.url) for name in ("tags", "branches"))
            for ref in (*tags, *branches):
                if _field(ref, "name", str, self.url) == self.revision:
                    return Resolved(_commit(ref, "targetCommit", self.url), "tag" if ref in tags else "branch")
        found = self._ask(f"revision/{quote(self.revision, safe='')}?expand=sha")
        return Resolved(_commit(found, "sha", self.url), "branch" if self.revision == MAIN else "other")

    def read(self, path: str, *, commit: str, limit: int) -> bytes:
        """A file at a commit, by one request.

        Raises:
            NotFoundError: no such file, or no such commit any more (``NO_FILE``).
            FormatError: more than ``limit`` bytes (``TOO_LARGE``).
            PolicyError: not ours to read (``DENIED``).
            TransportError: the network.
        """
        try:
            return self._transport.get(f"/{self.repo_id}/resolve/{commit}/{quote(path)}", limit=limit).body
        except TransportError as error:
            if error.code != "LIMIT":
                raise
            expected = f"at most {limit} bytes"
            where = f"{path} of {self.url}"
            raise FormatError("too large", code="TOO_LARGE", expected=expected, found=error.found, where=where) from error

    def reader(self) -> Callable[..., bytes]:
        """:meth:`read` at the commit that the revision means now.

        Raises:
            BatteriesError: as :meth:`resolve`.
        """
        return partial(self.read, commit=self.resolve().commit)

    def tree(self, commit: str) -> dict[str, Entry]:
        """The files at a commit, by path.

        Raises:
            TransportError: more than anybody should have to read (``LIMIT``), or longer than a call may take (``DEADLINE``), or
                the network.
            FormatError: an answer that is not the Hub's (``HUB_ANSWER``).
        """
        files: dict[str, Entry] = {}
        cursor: str | None = ""
        ends = time.monotonic() + self._transport.limits.deadline
        for _ in range(MAX_PAGES):
            if time.monotonic() > ends:
                what = "the list of files took too long"
                raise TransportError(what, code="DEADLINE", found=f"{len(files)} files", where=self.url, retryable=True)
            answer = self._answer(f"tree/{commit}?recursive=true&expand=false{cursor}")
            files |= {entry.path: entry for entry in _entries(answer, self.url)}
            cursor = _next_page(answer)
            if len(files) > MAX_FILES:
                break
            if cursor is None:
                return files
        expected = f"at most {MAX_FILES} in {MAX_PAGES} pages"
        raise TransportError("a repository of too many files", code="LIMIT", expected=expected, where=self.url)

    def create(self, *, private: bool | None = None) -> None:
        """Make the repository, or leave the one that is there.

        Raises:
            BatteriesError: as :meth:`batteries.hubclient.HubClient.create`.
        """
        self._client.create(private=private)

    def commit(self, files: Mapping[str, bytes], *, parent: str, message: str) -> str:
        """Write files on top of the commit ``parent``, all of them or none; returns the new commit.

        Raises:
            BatteriesError: as :meth:`batteries.hubclient.HubClient.commit`.
        """
        made = self._client.commit(files, revision=self.revision, parent=parent, message=message)
        return _commit({"commit": made}, "commit", self.url)

    def push(self, files: Mapping[str, bytes], *, message: str, private: bool | None = None) -> str:
        """Write files on top of whatever the branch is at, into a repository that is made if need be; returns the commit.

        Raises:
            BatteriesError: as :meth:`resolve`, :meth:`create` and :meth:`commit`.
        """
        try:
            parent = self.resolve().commit
        except NotFoundError as error:
            if error.code != "NO_REGISTRY":
                raise
            self.create(private=private)
            parent = self.resolve().commit
        return self.commit(files, parent=parent, message=message)

    @cached_property
    def _client(self) -> HubClient:
        return HubClient(self.repo_id, endpoint=self.endpoint, token=self._token, where=self.url, patience=self._patience)

    def _ask(self, what: str) -> Any:
        return canonical.load(self._answer(what).body, where=self.url, limit=MAX_ANSWER)

    def _answer(self, what: str) -> Answer:
        try:
            return self._transport.get(f"/api/models/{self.repo_id}/{what}", limit=MAX_ANSWER)
        except NotFoundError as error:
            raise refusal(404, str(error.found), self.url) from error
        except PolicyError as error:
            if error.code != "DENIED":
                raise
            raise refusal(401, str(error.found), self.url) from error


def _entries(answer: Answer, url: str) -> list[Entry]:
    page = canonical.load(answer.body, where=url, limit=MAX_ANSWER)
    if not isinstance(page, list):
        raise _bad_answer("a list of files", url)
    return [_entry(item, url) for item in page if _field(item, "type", str, url) == "file"]


def _entry(item: Any, url: str) -> Entry:
    kept = item.get("lfs") or item
    return Entry(_field(item, "path", str, url), _field(kept, "size", int, url), _field(kept, "oid", str, url))


def _next_page(answer: Answer) -> str | None:
    """The cursor of the next page: all that is taken of the address that the server gives."""
    link = _NEXT.search(answer.headers.get("link", ""))
    return f"&cursor={quote(unquote(link[1]), safe='')}" if link else None


def _commit(item: Any, name: str, url: str) -> str:
    commit: str = _field(item, name, str, url)
    if not COMMIT.fullmatch(commit):
        raise _bad_answer(f"{name}: a commit of 40 hexadecimal digits", url)
    return commit


def _field(item: Any, name: str, kind: type, url: str) -> Any:
    value = item.get(name) if isinstance(item, dict) else None
    if not isinstance(value, kind):
        raise _bad_answer(f"{name}: {kind.__name__}", url)
    return value


def _bad_answer(expected: str, url: str) -> FormatError:
    remedy = f"Check {ENDPOINT_VARIABLE}, and what stands between this machine and the Hub."
    return FormatError("an answer that is not the Hub's", code="HUB_ANSWER", expected=expected, where=url, remedy=remedy)


def _check_repository(repo_id: str) -> str:
    if not _REPOSITORY.fullmatch(repo_id) or "--" in repo_id or ".." in repo_id or repo_id.endswith(".git"):
        expected = "owner/repo, of letters, digits, '.', '_' and '-'"
        raise InputError("not a repository of the Hub", code="BAD_REPOSITORY", expected=expected, found=repr(repo_id[:120]))
    return repo_id


def _check_revision(revision: str) -> str:
    if not _REVISION.fullmatch(revision) or any(part in f"{revision}/" for part in ("..", "//", "/.", "./", ".lock/")):
        expected = "a branch, a tag or a commit"
        raise InputError("not a revision", code="BAD_REVISION", expected=expected, found=repr(revision[:120]))
    return revision


def _check_endpoint(endpoint: str) -> str:
    if any(mark in endpoint for mark in "?#@"):
        remedy = f"Correct {ENDPOINT_VARIABLE}."
        raise InputError("not an endpoint of a Hub", code="BAD_ENDPOINT", expected="https://host", remedy=remedy)
    return endpoint.rstrip("/")
