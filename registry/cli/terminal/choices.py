"""Options that take one of a few words: shown in the help, completed by the shell, refused with the library's own code."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, get_args

import typer

from batteries.errors import InputError
from batteries.training.recipe import BARE

VALUE = re.compile("[a-z0-9][a-z0-9-]*")  # no option, reference or path


def choice(kind: Any, *, code: str, help: str, show_default: str | bool = True, metavar: str | None = None) -> Any:
    """Return a typer option for a ``Literal``.

    Args:
        kind: The literal type.
        code: Code of the error for any other word, that of the function which takes the value.
        help: Help of the option.
        show_default: Words for the default, if its value does not tell.
        metavar: Name of the value in the help, in place of the words, if these are too many for a line.
    """
    words = get_args(kind)

    def checked(context: typer.Context, parameter: typer.CallbackParam, value: str | None) -> str | None:
        if value is not None and value not in words and not context.resilient_parsing:
            name = (parameter.name or "").replace("_", " ")
            raise InputError(f"unknown {name}", code=code, expected=" | ".join(words), found=value)
        return value

    def completed(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return typer.Option(
        metavar=metavar or "|".join(words),
        parser=str,  # not the literal type: typer's own refusal has no code
        callback=checked,
        autocompletion=completed,
        help=help,
        show_default=show_default,
    )


def with_values(words: Iterable[str]) -> list[str]:
    """Insert the values of options that are given without one, as ``--noise`` may be.

    >>> with_values(["train", "high/x", "--noise", "--steps", "4"])
    ['train', 'high/x', '--noise', 'batteries', '--steps', '4']
    >>> with_values(["--noise", "published"])
    ['--noise', 'published']
    """
    found = []
    for word, following in pairwise([*words, ""]):
        found.append(word)
        name = word.removeprefix("--")
        if name != word and name in BARE and not VALUE.fullmatch(following):
            found.append(BARE[name])
    return found
