"""Access token for the Hub, with its source, for messages about a refused token."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import huggingface_hub

from batteries.errors import InputError, NotFoundError, StoreError, StoreWarning
from batteries.io import atomic_files
from batteries.network.hub_environment import is_set, token_file

IMPLICIT_OFF = "HF_HUB_DISABLE_IMPLICIT_TOKEN"
VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
MAX_FILE = 64 * 1024


@dataclass(frozen=True)
class Credentials:
    """Access token and its source.

    Attributes:
        token: Token without white space.
        source: Place where the token was found.
        remedy: Advice on how to remove the token.
    """

    token: str = field(repr=False)
    source: str
    remedy: str


def find(given: str | None, ask: Callable[[Callable[[], str | None]], str | None]) -> Credentials | None:
    """Return the token of an argument, else the one that huggingface_hub would find, in its order; None if there is none.

    Args:
        given: Token argument of the caller.
        ask: Function that runs the client for tokens only it can get: it exchanges the token of a build service, renews an
            expiring one, and reads the secrets of a notebook.

    Raises:
        InputError: malformed token (``TOKEN``).
        BatteriesError: error of the client.
    """
    if given and (token := _clean(given, "the argument token")):
        return Credentials(token, "the argument token", "Leave the argument out")
    if is_set(IMPLICIT_OFF):
        return None
    if os.environ.get("HF_OIDC_RESOURCE"):
        return _asked(ask, "HF_OIDC_RESOURCE", "Unset HF_OIDC_RESOURCE")
    return _in_environment() or _in_file(token_file(), ask) or _in_notebook(ask)


def _in_environment() -> Credentials | None:
    name = next((name for name in VARIABLES if os.environ.get(name)), None)
    if name is None or (token := _clean(os.environ[name], name)) is None:
        return None
    return Credentials(token, f"the environment variable {name}", f"Unset {name}")


def _in_file(path: Path, ask: Callable[[Callable[[], str | None]], str | None]) -> Credentials | None:
    try:
        with atomic_files.typed(path), path.open("rb") as file:
            data = file.read(MAX_FILE)
    except NotFoundError:
        return None
    except StoreError as error:  # not requested explicitly, and a public repository needs none
        if not (atomic_files.is_closed(error) or isinstance(error.__cause__, IsADirectoryError)):
            raise
        what, remedy = "unreadable token file ignored", "Make it readable, or set HF_TOKEN or HF_TOKEN_PATH."
        warnings.warn(StoreWarning(what, code="NO_TOKEN", where=path, remedy=remedy), stacklevel=2)
        return None
    source = f"the file {path}"
    token = _clean(data.decode(errors="replace"), source)
    if token is None:
        return None
    remedy = f"Log in again with `hf auth login`, or remove {path}"
    if str(path) == huggingface_hub.constants.HF_TOKEN_PATH:
        return _asked(ask, source, remedy)
    return Credentials(token, source, remedy)


def _in_notebook(ask: Callable[[Callable[[], str | None]], str | None]) -> Credentials | None:
    if "google.colab" not in sys.modules:
        return None
    return _asked(ask, "the secret HF_TOKEN of this notebook", "Remove that secret")


def _asked(ask: Callable[[Callable[[], str | None]], str | None], source: str, remedy: str) -> Credentials | None:
    found = ask(huggingface_hub.get_token)
    token = _clean(found, source) if found else None
    return None if token is None else Credentials(token, source, remedy)


def _clean(text: str, source: str) -> str | None:
    """Strip white space and line ends from a token, as the client does; return None if nothing is left."""
    token = text.replace("\r", "").replace("\n", "").strip()
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        remedy = "Copy the token again, without quotation marks or blanks."
        raise InputError(
            "malformed token", code="TOKEN", expected="printable ASCII without blanks", where=source, remedy=remedy
        )
    return token or None
