"""Repository of the Hugging Face Hub: resolving revisions, reading files at a commit, and committing.

Reading goes through :mod:`batteries.network.transport` and names a commit: a branch is resolved once, never file by file.
Writing goes through :mod:`batteries.network.hub_client`.
"""

from __future__ import annotations

import re
import time
import weakref
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any
from urllib.parse import quote

from batteries.errors import FormatError, InputError, NotFoundError, TransportError
from batteries.io import canonical_json
from batteries.io.texts import placeholders
from batteries.network import credentials, hub_answers, hub_environment, urls
from batteries.network.hub_answers import COMMIT, MAX_ANSWER, Entry, Resolved
from batteries.network.hub_client import HubClient, refusal, typed
from batteries.network.hub_environment import ENDPOINT_VARIABLE
from batteries.network.limits import DEFAULT, Limits
from batteries.network.transport import AGENT, Answer, Transport

MAIN = "main"
PATIENCE = 300.0  # seconds for one commit, besides those for its bytes
MAX_FILES = 200_000
MAX_PAGES = 400  # pages of the list of files, each with a thousand on the Hub

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"(?=.{{3,96}}\Z){_PART}/{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,254}")


class HubRepository:
    """Model repository at a revision. Safe to share between threads.

    Args:
        repo_id: Repository name, ``owner/repo``.
        revision: Branch, tag or commit; ``main`` by default.
        endpoint: Address of the Hub; by default ``HF_ENDPOINT`` or the public one.
        token: Access token, sent only to the endpoint; by default the one that huggingface_hub finds.
        limits: Limits on reading one file; ``HF_HUB_DOWNLOAD_TIMEOUT`` and ``HF_HUB_ETAG_TIMEOUT`` take precedence.
        patience: Seconds for one commit, besides those for its bytes.

    Raises:
        InputError: malformed repository name (``BAD_REPOSITORY``), revision (``BAD_REVISION``) or endpoint
            (``BAD_ENDPOINT``, ``BAD_URL``).
        PolicyError: unencrypted endpoint on another machine (``INSECURE``).

    >>> import batteries
    >>> repository = batteries.HubRepository("me/cells", revision="v1")
    >>> repository.url
    'hf://me/cells@v1'
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
        self.endpoint = _check_endpoint(endpoint or hub_environment.endpoint())
        urls.read(self.endpoint)
        self._given = token
        self._limits = limits
        self._patience = patience

    def __repr__(self) -> str:
        return f"HubRepository({self.repo_id!r}, revision={self.revision!r}, endpoint={self.endpoint!r})"

    @property
    def url(self) -> str:
        """Address ``hf://owner/repo``, with ``@revision`` unless it is ``main``."""
        return f"hf://{self.repo_id}" if self.revision == MAIN else f"hf://{self.repo_id}@{self.revision}"

    def resolve(self) -> Resolved:
        """Ask the Hub for the commit of the revision; a revision that is a commit needs no request.

        Raises:
            NotFoundError: missing repository (``NO_REGISTRY``) or revision (``NO_REVISION``).
            PolicyError: no permission to read (``DENIED``).
            FormatError: unexpected answer (``HUB_ANSWER``).
            TransportError: network failure.
        """
        if COMMIT.fullmatch(self.revision):
            return Resolved(self.revision, "other")
        if self.revision != MAIN:
            refs = self._ask("refs")
            tags, branches = (hub_answers.field(refs, name, list, self.url) for name in ("tags", "branches"))
            for ref in (*tags, *branches):
                if hub_answers.field(ref, "name", str, self.url) == self.revision:
                    return Resolved(hub_answers.commit(ref, "targetCommit", self.url), "tag" if ref in tags else "branch")
        found = self._ask(f"revision/{quote(self.revision, safe='')}?expand=sha")
        return Resolved(hub_answers.commit(found, "sha", self.url), "branch" if self.revision == MAIN else "other")

    def read(self, path: str, *, commit: str, limit: int) -> bytes:
        """Read a file at a commit with one request.

        Raises:
            NotFoundError: missing file, or commit that no longer exists (``NO_FILE``).
            FormatError: more than ``limit`` bytes (``TOO_LARGE``), or a stand-in for a file (``LFS_POINTER`` and others).
            PolicyError: no permission to read (``DENIED``).
            TransportError: network failure.
        """
        try:
            limits = hub_environment.download_limits(self._limits)
            body = self._get(f"/{self.repo_id}/resolve/{commit}/{quote(path)}", limit, limits).body
        except TransportError as error:
            if error.code != "LIMIT":
                raise
            expected = f"at most {limit} bytes"
            where = f"{path} of {self.url}"
            raise FormatError("too large", code="TOO_LARGE", expected=expected, found=error.found, where=where) from error
        placeholders.refuse(body, where=f"{path} of {self.url}")
        return body

    def reader(self) -> Callable[..., bytes]:
        """Return :meth:`read` bound to the current commit of the revision.

        Raises:
            BatteriesError: any error of :meth:`resolve`.
        """
        return partial(self.read, commit=self.resolve().commit)

    def tree(self, commit: str) -> dict[str, Entry]:
        """List the files at a commit, by path.

        Raises:
            TransportError: too many files (``LIMIT``), timeout (``DEADLINE``), or network failure.
            FormatError: unexpected answer (``HUB_ANSWER``).
        """
        files: dict[str, Entry] = {}
        cursor: str | None = ""
        ends = time.monotonic() + self._limits.deadline
        for _ in range(MAX_PAGES):
            if time.monotonic() > ends:
                what = "timeout of the list of files"
                raise TransportError(what, code="DEADLINE", found=f"{len(files)} files", where=self.url, retryable=True)
            answer = self._answer(f"tree/{commit}?recursive=true&expand=false{cursor}")
            files |= {entry.path: entry for entry in hub_answers.entries(answer, self.url)}
            cursor = hub_answers.next_page(answer)
            if len(files) > MAX_FILES:
                break
            if cursor is None:
                return files
        expected = f"at most {MAX_FILES} in {MAX_PAGES} pages"
        raise TransportError("too many files in the repository", code="LIMIT", expected=expected, where=self.url)

    def create(self, *, private: bool | None = None) -> None:
        """Create the repository unless it exists.

        Raises:
            BatteriesError: any error of :meth:`batteries.network.hub_client.HubClient.create`.
        """
        self._client.create(private=private)

    def commit(self, files: Mapping[str, bytes], *, parent: str, message: str) -> str:
        """Write files on top of the commit ``parent``, atomically; return the new commit.

        Raises:
            BatteriesError: any error of :meth:`batteries.network.hub_client.HubClient.commit`.
        """
        made = self._client.commit(files, revision=self.revision, parent=parent, message=message)
        return hub_answers.commit({"commit": made}, "commit", self.url)

    def push(self, files: Mapping[str, bytes], *, message: str, private: bool | None = None) -> str:
        """Write files on top of the branch's current commit, creating a missing repository; return the new commit.

        Raises:
            BatteriesError: any error of :meth:`resolve`, :meth:`create` and :meth:`commit`.
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
        return HubClient(
            self.repo_id, endpoint=self.endpoint, credentials=self._credentials, where=self.url, patience=self._patience
        )

    @cached_property
    def _credentials(self) -> credentials.Credentials | None:
        hub_environment.refuse_offline(self.url)  # finding a token may use the network
        return credentials.find(self._given, lambda look: typed(look, self.url))

    @cached_property
    def _transport(self) -> Transport:
        found = self._credentials
        transport = Transport(
            origin=self.endpoint,
            token=None if found is None else found.token,
            agent=hub_environment.agent(AGENT),
            denial=partial(refusal, where=self.url, credentials=found),
        )
        weakref.finalize(self, transport.close)
        return transport

    def _ask(self, what: str) -> Any:
        return canonical_json.load(self._answer(what).body, where=self.url, limit=MAX_ANSWER)

    def _answer(self, what: str) -> Answer:
        try:
            limits = hub_environment.question_limits(self._limits)
            return self._get(f"/api/models/{self.repo_id}/{what}", MAX_ANSWER, limits)
        except NotFoundError as error:
            if error.code != "NO_FILE":
                raise
            raise refusal(404, str(error.found), self.url, self._credentials) from error

    def _get(self, path: str, limit: int, limits: Limits) -> Answer:
        hub_environment.refuse_offline(self.url)
        return self._transport.get(path, limit=limit, limits=limits)


def _check_repository(repo_id: str) -> str:
    if not _REPOSITORY.fullmatch(repo_id) or "--" in repo_id or ".." in repo_id or repo_id.endswith(".git"):
        expected = "owner/repo, of letters, digits, '.', '_' and '-'"
        raise InputError("invalid repository name", code="BAD_REPOSITORY", expected=expected, found=repr(repo_id[:120]))
    return repo_id


def _check_revision(revision: str) -> str:
    if not _REVISION.fullmatch(revision) or any(part in f"{revision}/" for part in ("..", "//", "/.", "./", ".lock/")):
        expected = "a branch, a tag or a commit"
        raise InputError("invalid revision", code="BAD_REVISION", expected=expected, found=repr(revision[:120]))
    return revision


def _check_endpoint(endpoint: str) -> str:
    if any(mark in endpoint for mark in "?#@"):
        remedy = f"Correct {ENDPOINT_VARIABLE}."
        raise InputError("invalid endpoint of the Hub", code="BAD_ENDPOINT", expected="https://host", remedy=remedy)
    return endpoint.rstrip("/")
