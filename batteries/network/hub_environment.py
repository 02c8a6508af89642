"""Environment variables of the Hugging Face Hub's clients, looked up at each call, with the client's words for yes.

The table of all of them, honoured or not and why, is in ``docs/hub.md``.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from batteries.errors import InputError, TransportError
from batteries.network.limits import Limits

ENDPOINT_VARIABLE = "HF_ENDPOINT"
ENDPOINT = "https://huggingface.co"
TRUE = {"1", "ON", "YES", "TRUE"}  # in any case, without blanks, as huggingface_hub has it
MAX_SECONDS = 3600
MAX_ORIGIN = 100  # characters of HF_HUB_USER_AGENT_ORIGIN


def is_set(name: str) -> bool:
    """Whether a variable has one of the client's words for yes."""
    return os.environ.get(name, "").upper() in TRUE


def offline_variable() -> str | None:
    """Variable that forbids the network; None where none does. ``TRANSFORMERS_OFFLINE`` counts where the other is empty."""
    name = "HF_HUB_OFFLINE" if os.environ.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"
    return name if is_set(name) else None


def refuse_offline(where: str) -> None:
    """Refuse to open a connection where a variable forbids the network.

    Raises:
        TransportError: one does (``OFFLINE``).
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
    """Address of the Hub: ``HF_ENDPOINT``, or the public one."""
    return os.environ.get(ENDPOINT_VARIABLE) or ENDPOINT


def token_file() -> Path:
    """File where ``hf auth login`` leaves a token: ``HF_TOKEN_PATH``, or ``token`` in ``HF_HOME``."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    path = Path(os.path.expandvars(os.environ.get("HF_TOKEN_PATH") or f"{home}/token"))
    try:
        return path.expanduser()
    except RuntimeError:  # no home is known
        return path


def download_limits(limits: Limits) -> Limits:
    """Limits with ``HF_HUB_DOWNLOAD_TIMEOUT`` as the seconds to reach a server and to wait for a byte.

    Raises:
        InputError: not a number of seconds (``ENVIRONMENT``).
    """
    return _within(limits, "HF_HUB_DOWNLOAD_TIMEOUT")


def question_limits(limits: Limits) -> Limits:
    """The same with ``HF_HUB_ETAG_TIMEOUT``, for questions about a repository.

    Raises:
        InputError: not a number of seconds (``ENVIRONMENT``).
    """
    return _within(limits, "HF_HUB_ETAG_TIMEOUT")


def agent(own: str) -> str:
    """Name that this program gives itself, with ``HF_HUB_USER_AGENT_ORIGIN``.

    Raises:
        InputError: an origin that no header can hold (``ENVIRONMENT``).
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
    if not seconds:  # as the client: its own default
        return limits
    return replace(limits, connect=seconds, stall=seconds, deadline=max(limits.deadline, seconds))


def _unusable(name: str, expected: str) -> InputError:
    found = repr(os.environ[name][:80])
    remedy = f"Correct {name}, or unset it."
    return InputError(
        "an environment variable that cannot be used",
        code="ENVIRONMENT",
        expected=expected,
        found=found,
        where=name,
        remedy=remedy,
    )
