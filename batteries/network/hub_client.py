"""Writing to the Hugging Face Hub, by huggingface_hub's own client: it knows how the Hub keeps large files.

The client waits for ever, and promises nothing of what it raises. Both end here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import huggingface_hub

from batteries.errors import BatteriesError, ConflictError, NotFoundError, PolicyError, TransportError
from batteries.network import hub_environment
from batteries.network.credentials import IMPLICIT_OFF, Credentials

LIBRARY = "svae-batteries"
SLOWEST = 100_000  # bytes a second that an upload is waited for
SHOWN = 300  # characters of a server's words in an error

Result = TypeVar("Result")


class HubClient:
    """What is written to one repository.

    Args:
        repo_id: ``owner/repo``.
        endpoint: Address of the Hub.
        credentials: Who writes; None for nobody.
        where: What errors call the repository.
        patience: Seconds for one call, beside the time that its bytes take at 100 kB a second.
    """

    def __init__(self, repo_id: str, *, endpoint: str, credentials: Credentials | None, where: str, patience: float) -> None:
        self._repo_id = repo_id
        self._credentials = credentials
        self._where = where
        self._patience = patience
        # False: a client without a token would look for one, and send it
        token = False if credentials is None else credentials.token
        self._client = huggingface_hub.HfApi(endpoint=endpoint, token=token, library_name=LIBRARY)

    def create(self, *, private: bool | None) -> None:
        """Make the repository, or leave the one that is there.

        Raises:
            BatteriesError: as :meth:`commit`.
        """
        self._bounded(lambda: self._client.create_repo(self._repo_id, private=private, exist_ok=True), self._patience)

    def commit(self, files: Mapping[str, bytes], *, revision: str, parent: str, message: str) -> str:
        """Write files on top of a commit, all of them or none; returns the new commit.

        Args:
            files: Bytes by path; those that are there already with the same bytes are passed over.
            revision: The branch.
            parent: The commit that it must still be at.
            message: One line.

        Raises:
            ConflictError: the branch is elsewhere by now (``INDEX_MOVED``, retryable).
            NotFoundError: no such repository (``NO_REGISTRY``) or revision (``NO_REVISION``).
            PolicyError: not ours to write (``DENIED``), refused for what it holds (``REFUSED``), or files that the repository
                ignores (``IGNORED``).
            TransportError: the network. The commit may have been made: only a look at the branch can tell.
        """
        seconds = self._patience + sum(len(data) for data in files.values()) / SLOWEST
        return self._bounded(lambda: self._commit(files, revision, parent, message), seconds)

    def _commit(self, files: Mapping[str, bytes], revision: str, parent: str, message: str) -> str:
        operations = [huggingface_hub.CommitOperationAdd(path, data) for path, data in sorted(files.items())]
        self._client.preupload_lfs_files(self._repo_id, operations, revision=revision)
        # the client drops such files without a word, and what names them would name nothing
        ignored = [operation.path_in_repo for operation in operations if operation._should_ignore]
        if ignored:
            raise PolicyError(
                "the repository ignores files of this kind",
                code="IGNORED",
                found=", ".join(ignored[:3]),
                where=self._where,
                remedy="Remove .gitignore from the repository, or its lines that name these files.",
            )
        made = self._client.create_commit(
            self._repo_id, operations, commit_message=message, revision=revision, parent_commit=parent
        )
        return str(made.oid)

    def _bounded(self, work: Callable[[], Result], seconds: float) -> Result:
        """Run the client in a thread of its own, and wait for it so long.

        Where the environment forbids the network, nothing runs. A thread cannot be stopped; what it still brings about is, to
        us, a reply that was lost.
        """
        hub_environment.refuse_offline(self._where)
        outcome: list[Result | BatteriesError] = []

        def attempt() -> None:
            try:
                outcome.append(typed(work, self._where, self._credentials))
            except BatteriesError as error:
                outcome.append(error)

        thread = threading.Thread(target=attempt, name="batteries-hub", daemon=True)
        thread.start()
        thread.join(seconds)
        if not outcome:
            within = f"an answer within {seconds:.1f} s"
            raise TransportError("the Hub took too long", code="DEADLINE", expected=within, where=self._where, retryable=True)
        if isinstance(outcome[0], BatteriesError):
            raise outcome[0]
        return outcome[0]


def typed(work: Callable[[], Result], where: str, credentials: Credentials | None = None) -> Result:
    """Run some of the client, and turn whatever it raises into one of ours."""
    try:
        return work()
    except BatteriesError:
        raise
    except Exception as error:  # RuntimeError, ValueError, KeyError, OSError and httpx2's, by version and by weather
        raise _error_of(error, where, credentials) from error


def refusal(status: int, code: str | None, where: str, credentials: Credentials | None) -> BatteriesError:
    """What the Hub means by 401, 403 or 404.

    It answers 401 about what does not exist to whoever shows no token, and names the reason in a header. To whoever shows one,
    401 is about the token, whatever was asked for.

    Args:
        status: The HTTP status.
        code: The header ``X-Error-Code``.
        where: What errors call the repository.
        credentials: The token that was sent; None where none was.
    """
    found = f"status {status}" if not code else f"status {status}, {code}"
    if status == 401 and credentials is not None:
        what = f"the Hub refuses the token of {credentials.source}: it is wrong, expired or revoked"
        remedy = f"{credentials.remedy}: a public repository needs no token. Or set HF_TOKEN to a valid one."
        return PolicyError(
            what, code="TOKEN_REFUSED", expected="a valid token, or none", found=found, where=where, remedy=remedy
        )
    if code == "RevisionNotFound":
        return NotFoundError("no such revision", code="NO_REVISION", where=where, remedy="Name a branch, a tag or a commit.")
    if code == "EntryNotFound":
        return NotFoundError("no such file", code="NO_FILE", where=where)
    if code == "RepoNotFound" or status == 404:
        remedy = f"Check its address. A private one needs a token: {_login(credentials)}"
        return NotFoundError("no such repository, or a private one", code="NO_REGISTRY", where=where, remedy=remedy)
    if code == "GatedRepo":
        remedy = f"Ask for access on the page of the repository, and show who you are: {_login(credentials)}"
        return PolicyError("a gated repository", code="GATED", found=found, where=where, remedy=remedy)
    remedy = f"This takes a token that has the right to do it: {_login(credentials)}"
    return PolicyError("the Hub denies access", code="DENIED", found=found, where=where, remedy=remedy)


def _login(credentials: Credentials | None) -> str:
    """Which token counted, and how to show another one."""
    if credentials is not None:
        return f"the one of {credentials.source} was sent, and accepted as such."
    unsent = f" {IMPLICIT_OFF} keeps any token of this machine from being sent." if hub_environment.is_set(IMPLICIT_OFF) else ""
    return f"`hf auth login` or HF_TOKEN.{unsent}"


def _error_of(error: Exception, where: str, credentials: Credentials | None) -> BatteriesError:
    response = _response_of(error)
    status = 0 if response is None else response.status_code
    found = " ".join(str(error).split())[:SHOWN]
    if status in (401, 403, 404):
        return refusal(status, response.headers.get("x-error-code"), where, credentials)
    if status in (409, 412):
        what, remedy = "somebody else wrote to the repository", "Read the index again and repeat the change."
        return ConflictError(what, code="INDEX_MOVED", found=found, where=where, remedy=remedy, retryable=True)
    if status == 429:
        return TransportError("too many requests", code="RATE_LIMITED", found=found, where=where, retryable=True)
    if 400 <= status < 500 and status != 408:
        return PolicyError("the Hub refuses this", code="REFUSED", found=found, where=where)
    if isinstance(error, huggingface_hub.errors.OfflineModeIsEnabled):
        remedy = "huggingface_hub was imported while HF_HUB_OFFLINE was set: start the program again without it."
        return TransportError("offline by HF_HUB_OFFLINE", code="OFFLINE", where=where, remedy=remedy)
    if "CERTIFICATE_VERIFY_FAILED" in found:
        remedy = (
            "For writing, huggingface_hub reads SSL_CERT_FILE and SSL_CERT_DIR only: let one name the certificates to trust."
        )
        return TransportError(
            "the certificate of the server is not trusted", code="CERTIFICATE", found=found, where=where, remedy=remedy
        )
    return TransportError("the Hub did not take it", code="UNAVAILABLE", found=found, where=where, retryable=True)


def _response_of(error: BaseException | None) -> Any:
    """HTTP answer behind an error of the client, which wraps some of them."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return response
        error = error.__cause__
    return None
