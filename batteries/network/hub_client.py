"""Writing to the Hugging Face Hub with huggingface_hub's client, which implements the Hub's storage of large files.

The client has no overall timeout and undocumented exceptions; both are handled here.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import huggingface_hub

from batteries.errors import BatteriesError, ConflictError, NotFoundError, PolicyError, TransportError
from batteries.network import hub_environment
from batteries.network.credentials import IMPLICIT_OFF, Credentials
from batteries.network.guarded_session import guarded

LIBRARY = "svae-batteries"
SLOWEST = 100_000  # bytes per second that an upload is expected to reach
LATER = 2.0  # seconds after the end of a call, until its thread stops reading an answer
SHOWN = 300  # characters of a server's words in an error

Result = TypeVar("Result")


class HubClient:
    """Client that writes to one repository.

    Args:
        repo_id: Repository name, ``owner/repo``.
        endpoint: Address of the Hub.
        credentials: Token to write with; None for none.
        where: Name of the repository in messages.
        patience: Seconds for one call, besides those for its bytes at 100 kB per second.
    """

    def __init__(self, repo_id: str, *, endpoint: str, credentials: Credentials | None, where: str, patience: float) -> None:
        self._repo_id = repo_id
        self._endpoint = endpoint
        self._credentials = credentials
        self._where = where
        self._patience = patience
        # False, since for None the client would search for a token and send it
        token = False if credentials is None else credentials.token
        self._client = huggingface_hub.HfApi(endpoint=endpoint, token=token, library_name=LIBRARY)

    def create(self, *, private: bool | None) -> None:
        """Create the repository unless it exists.

        Raises:
            BatteriesError: any error of :meth:`commit`.
        """
        self._bounded(lambda: self._client.create_repo(self._repo_id, private=private, exist_ok=True), self._patience)

    def commit(self, files: Mapping[str, bytes], *, revision: str, parent: str, message: str) -> str:
        """Write files on top of a commit, atomically; return the new commit.

        Args:
            files: Bytes by path; files that exist with the same bytes are skipped.
            revision: Branch to write to.
            parent: Commit that the branch must still be at.
            message: Message of the commit, in one line.

        Raises:
            ConflictError: the branch has moved (``INDEX_MOVED``, retryable).
            NotFoundError: missing repository (``NO_REGISTRY``) or revision (``NO_REVISION``).
            PolicyError: no permission to write (``DENIED``), contents refused (``REFUSED``), or files that the repository
                ignores (``IGNORED``).
            TransportError: network failure. The commit may have been made; reading the branch tells.
        """
        seconds = self._patience + sum(len(data) for data in files.values()) / SLOWEST
        return self._bounded(lambda: self._commit(files, revision, parent, message), seconds)

    def _commit(self, files: Mapping[str, bytes], revision: str, parent: str, message: str) -> str:
        # the client takes bytes to Xet, with a library that opens connections of its own, but a buffer over HTTP
        operations = [huggingface_hub.CommitOperationAdd(path, io.BytesIO(data)) for path, data in sorted(files.items())]
        with _silent_about_xet():
            self._client.preupload_lfs_files(self._repo_id, operations, revision=revision)
        # the client silently drops such files, and references to them would dangle
        ignored = [operation.path_in_repo for operation in operations if operation._should_ignore]
        if ignored:
            raise PolicyError(
                "files ignored by the repository",
                code="IGNORED",
                found=", ".join(ignored[:3]),
                where=self._where,
                remedy="Remove .gitignore from the repository, or its lines that match these files.",
            )
        made = self._client.create_commit(
            self._repo_id, operations, commit_message=message, revision=revision, parent_commit=parent
        )
        return str(made.oid)

    def _bounded(self, work: Callable[[], Result], seconds: float) -> Result:
        """Run the client in a separate thread, and wait a limited time for it.

        Nothing runs if the environment forbids the network. A thread cannot be stopped; what it does after the time limit is
        treated like a lost reply.
        """
        hub_environment.refuse_offline(self._where)
        outcome: list[Result | BatteriesError] = []

        def guarded_work() -> Result:
            with guarded(self._endpoint, self._credentials.token if self._credentials else None, seconds + LATER):
                return work()

        def attempt() -> None:
            try:
                outcome.append(typed(guarded_work, self._where, self._credentials))
            except BatteriesError as error:
                outcome.append(error)

        thread = threading.Thread(target=attempt, name="batteries-hub", daemon=True)
        thread.start()
        thread.join(seconds)
        if not outcome:
            within = f"an answer within {seconds:.1f} s"
            raise TransportError("timeout of the Hub", code="DEADLINE", expected=within, where=self._where, retryable=True)
        if isinstance(outcome[0], BatteriesError):
            raise outcome[0]
        return outcome[0]


@contextlib.contextmanager
def _silent_about_xet() -> Iterator[None]:
    """Drop the client's advice against buffers: their upload is guarded, and one to Xet would not be."""
    logger = logging.getLogger("huggingface_hub._commit_api")

    def other(record: logging.LogRecord) -> bool:
        return "Xet" not in record.getMessage()

    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


def typed(work: Callable[[], Result], where: str, credentials: Credentials | None = None) -> Result:
    """Run a call of the client, and convert any exception to this package's."""
    try:
        return work()
    except BatteriesError:
        raise
    except Exception as error:  # RuntimeError, ValueError, KeyError, OSError or httpx2's; it may hold one of ours
        if own := _own_inside(error):
            raise own from None
        raise _error_of(error, where, credentials) from (None if _tells(error, credentials) else error)


def refusal(status: int, code: str | None, where: str, credentials: Credentials | None) -> BatteriesError:
    """Make the error of a status 401, 403 or 404 of the Hub.

    To a request without a token the Hub answers 401 even for a missing repository, with the reason in a header. To a request
    with a token, 401 always means that the token is refused.

    Args:
        status: Status of the answer.
        code: Value of the header ``X-Error-Code``.
        where: Name of the repository in messages.
        credentials: Token that was sent; None if none was.
    """
    found = f"status {status}" if not code else f"status {status}, {code}"
    if status == 401 and credentials is not None:
        what = f"token of {credentials.source} refused by the Hub"
        remedy = f"{credentials.remedy}: a public repository needs no token. Or set HF_TOKEN to a valid one."
        return PolicyError(
            what, code="TOKEN_REFUSED", expected="a valid token, or none", found=found, where=where, remedy=remedy
        )
    if code == "RevisionNotFound":
        return NotFoundError("unknown revision", code="NO_REVISION", where=where, remedy="Name a branch, a tag or a commit.")
    if code == "EntryNotFound":
        return NotFoundError("no such file", code="NO_FILE", where=where)
    if code == "RepoNotFound" or status == 404:
        remedy = f"Check its address. A private one needs a token: {_login(credentials)}"
        return NotFoundError("missing or private repository", code="NO_REGISTRY", where=where, remedy=remedy)
    if code == "GatedRepo":
        remedy = f"Request access on the page of the repository, and log in: {_login(credentials)}"
        return PolicyError("gated repository", code="GATED", found=found, where=where, remedy=remedy)
    remedy = f"A token with this permission is needed: {_login(credentials)}"
    return PolicyError("access denied by the Hub", code="DENIED", found=found, where=where, remedy=remedy)


def _login(credentials: Credentials | None) -> str:
    """Describe the token that was sent, or how to log in."""
    if credentials is not None:
        return f"that of {credentials.source} was sent, and is valid."
    unsent = f" {IMPLICIT_OFF} prevents tokens of this machine from being sent." if hub_environment.is_set(IMPLICIT_OFF) else ""
    return f"`hf auth login` or HF_TOKEN.{unsent}"


def _error_of(error: Exception, where: str, credentials: Credentials | None) -> BatteriesError:
    response = _response_of(error)
    status = 0 if response is None else response.status_code
    found = " ".join(_without_token(str(error), credentials).split())[:SHOWN]
    if status in (401, 403, 404):
        return refusal(status, response.headers.get("x-error-code"), where, credentials)
    if status in (409, 412):
        what, remedy = "concurrent change of the repository", "Read the index again and repeat the change."
        return ConflictError(what, code="INDEX_MOVED", found=found, where=where, remedy=remedy, retryable=True)
    if status == 429:
        return TransportError("too many requests", code="RATE_LIMITED", found=found, where=where, retryable=True)
    if 400 <= status < 500 and status != 408:
        return PolicyError("request refused by the Hub", code="REFUSED", found=found, where=where)
    if isinstance(error, huggingface_hub.errors.OfflineModeIsEnabled):
        remedy = "huggingface_hub was imported while HF_HUB_OFFLINE was set: start the program again without it."
        return TransportError("offline by HF_HUB_OFFLINE", code="OFFLINE", where=where, remedy=remedy)
    if "CERTIFICATE_VERIFY_FAILED" in found:
        remedy = "For writing, huggingface_hub reads only SSL_CERT_FILE and SSL_CERT_DIR: set one to the trusted certificates."
        return TransportError(
            "untrusted certificate of the server", code="CERTIFICATE", found=found, where=where, remedy=remedy
        )
    return TransportError("write to the Hub failed", code="UNAVAILABLE", found=found, where=where, retryable=True)


def _own_inside(error: BaseException | None) -> BatteriesError | None:
    """Return the error of this package that the client wrapped, if any."""
    while error is not None and not isinstance(error, BatteriesError):
        error = error.__cause__
    return error


def _without_token(text: str, credentials: Credentials | None) -> str:
    """Return a server's words without the token, which it may repeat."""
    return text.replace(credentials.token, "(token)") if credentials else text


def _tells(error: BaseException | None, credentials: Credentials | None) -> bool:
    """Tell whether an error, or one that it comes from, has the token in its words."""
    told = False
    while error is not None and credentials is not None and not told:
        told = credentials.token in str(error)
        error = error.__cause__ or error.__context__
    return told


def _response_of(error: BaseException | None) -> Any:
    """Return the HTTP response of an error of the client, which wraps some errors."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return response
        error = error.__cause__
    return None
