"""Environment variables of the Hugging Face Hub's clients, read at each call and interpreted as the client does.

``docs/hub.md`` lists all of them, with the reasons why some are ignored.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from batteries.errors import InputError, TransportError
from batteries.network.limits import Limits

ENDPOINT_VARIABLE = "HF_ENDPOINT"
ENDPOINT = "https://huggingface.co"
TRUE = {"1", "ON", "YES", "TRUE"}  # case-insensitive, as in huggingface_hub
MAX_SECONDS = 3600
MAX_ORIGIN = 100  # characters of HF_HUB_USER_AGENT_ORIGIN


def is_set(name: str) -> bool:
    """Return True if a variable has one of the client's true values."""
    return os.environ.get(name, "").upper() in TRUE


def offline_variable() -> str | None:
    """Return the variable that forbids the network, or None. ``TRANSFORMERS_OFFLINE`` counts if the other is empty."""
    name = "HF_HUB_OFFLINE" if os.environ.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"
    return name if is_set(name) else None


def refuse_offline(where: str) -> None:
    """Refuse to open a connection if a variable forbids the network.

    Raises:
        TransportError: network forbidden by a variable (``OFFLINE``).
    """
    if name := offline_variable():
        raise TransportError(
            "offline by the environment",
            code="OFFLINE",
            expected="no request",
            found=f"{name}={os.environ[name]}",
            where=where,
            remedy=f"Unset {name}, or set it to 0.",
        )


def endpoint() -> str:
    """Return the address of the Hub: ``HF_ENDPOINT``, or the public one."""
    return os.environ.get(ENDPOINT_VARIABLE) or ENDPOINT


def token_file() -> Path:
    """Return the file where ``hf auth login`` stores a token: ``HF_TOKEN_PATH``, or ``token`` in ``HF_HOME``."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    path = Path(os.path.expandvars(os.environ.get("HF_TOKEN_PATH") or f"{home}/token"))
    try:
        return path.expanduser()
    except RuntimeError:  # no home folder
        return path


def download_limits(limits: Limits) -> Limits:
    """Replace the timeouts to connect and to wait for a byte by ``HF_HUB_DOWNLOAD_TIMEOUT``, if set.

    Raises:
        InputError: not a number of seconds (``ENVIRONMENT``).
    """
    return _within(limits, "HF_HUB_DOWNLOAD_TIMEOUT")


def question_limits(limits: Limits) -> Limits:
    """Replace the timeouts as :func:`download_limits` does by ``HF_HUB_ETAG_TIMEOUT``, for queries about a repository.

    Raises:
        InputError: not a number of seconds (``ENVIRONMENT``).
    """
    return _within(limits, "HF_HUB_ETAG_TIMEOUT")


def agent(own: str) -> str:
    """Return the user agent, with ``HF_HUB_USER_AGENT_ORIGIN`` if set.

    Raises:
        InputError: origin that is not valid in a header (``ENVIRONMENT``).
    """
    origin = os.environ.get("HF_HUB_USER_AGENT_ORIGIN")
    if not origin:
        return own
    if len(origin) > MAX_ORIGIN or not (origin.isascii() and origin.isprintable()):
        raise _unusable("HF_HUB_USER_AGENT_ORIGIN", f"at most {MAX_ORIGIN} printable ASCII characters")
    return f"{own}; origin/{origin}"


def _within(limits: Limits, name: str) -> Limits:
    text = os.environ.get(name)
    if not text:
        return limits
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 6 and int(digits) <= MAX_SECONDS):
        raise _unusable(name, f"whole seconds, at most {MAX_SECONDS}")
    seconds = float(digits)
    if not seconds:  # 0 means the default, as in the client
        return limits
    return replace(limits, connect=seconds, stall=seconds, deadline=max(limits.deadline, seconds))


def _unusable(name: str, expected: str) -> InputError:
    found = repr(os.environ[name][:80])
    remedy = f"Correct {name}, or unset it."
    return InputError(
        "invalid environment variable",
        code="ENVIRONMENT",
        expected=expected,
        found=found,
        where=name,
        remedy=remedy,
    )
