"""Options that take one of a few words: shown in the help, completed by the shell, refused with the library's own code."""

from __future__ import annotations

from typing import Any, get_args

import typer

from batteries.errors import InputError


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
