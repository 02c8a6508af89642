"""From options of the command line to documents, photographs and the line that a manifest quotes."""

from __future__ import annotations

import shlex
from collections.abc import Container, Sequence
from typing import Any

import typer
from pydantic import ValidationError

import batteries
from batteries.canonical import AnyDocument, fields_of
from batteries.errors import InputError
from registry.console import say


def typed(kind: type[AnyDocument], **values: Any) -> AnyDocument:
    """A document from options; what is wrong with them is a usage error.

    Raises:
        InputError: a value that its field does not take; all of them are named.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        raise InputError("options that cannot be used", code="USAGE", found=fields_of(error)) from error


def photographs(places: Sequence[str]) -> batteries.Photos:
    """The photographs of folders and globs; says which were skipped.

    Raises:
        NotFoundError: not one photograph there.
    """
    read = batteries.read_photos(*places)
    for skipped in read.skipped:
        say(f"skipped {skipped.path}: {skipped.reason}")
    say(f"photographs: {len(read.names)} read, {len(read.skipped)} skipped")
    return read


def command_line(context: typer.Context, aside: Container[str]) -> str:
    """What a reader types to do this again: the command, with every option that is not its default.

    Args:
        context: Of the command.
        aside: Names of options that say where, and decide nothing about the cell.
    """
    words = ["batteries", context.command.name or ""]
    for parameter in context.command.params:
        value = context.params[parameter.name or ""]
        if parameter.name in aside or value in (parameter.default, None, (), []):
            continue
        if parameter.param_type_name == "argument":
            words.append(str(value))
        elif value is True:
            words.append(parameter.opts[0])
        else:
            words += [
                word
                for item in (value if isinstance(value, list | tuple) else [value])
                for word in (parameter.opts[0], str(item))
            ]
    return shlex.join(words)
