"""Reference of the command line as Markdown, from the commands themselves."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from registry.cli import app
from registry.cli.terminal.help import COMMAND_GROUPS, option_row


class MarkdownFormatter:
    """Formatter that writes a command's help as tables of Markdown, where click's own writes columns of text."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Head what follows by a name in bold: headings are those of commands."""
        self.parts.append(f"**{name}**")
        yield

    def write_dl(self, rows: Sequence[tuple[str, str]], **_: Any) -> None:
        """Write a table of names and their meaning."""
        lines = [f"| {_name(name.strip())} | {_words(text)} |" for name, text in rows]
        self.parts.append("\n".join(["| | |", "|---|---|", *lines]))

    def write(self, text: str) -> None:
        """Write an example or the exit codes as they are."""
        self.parts.append(_fenced(textwrap.dedent(text).strip()))


def commands() -> dict[str, Any]:
    """Return the commands by name, in the order of the program's help; those of a group after its name."""
    return dict(_commands(typer.main.get_command(app)))


def _commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name in group.list_commands(None):
        command = group.commands[name]
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def page(groups: Sequence[str] = COMMAND_GROUPS) -> str:
    """Return the commands of some groups of the program's help, a section each.

    Raises:
        KeyError: If the program has a command of a group that it does not list.
    """
    sections: dict[str, list[str]] = {group: [] for group in COMMAND_GROUPS}
    for name, command in commands().items():
        sections[command.rich_help_panel].append(section(name, command))
    return "\n\n".join(f"## {group}\n\n" + "\n\n".join(sections[group]) for group in groups)


def section(name: str, command: Any) -> str:
    """Return the section of a command: usage, description, arguments, options, example, exit codes."""
    context = command.context_class(command, info_name=f"batteries {name}")
    formatter = MarkdownFormatter()
    usage = " ".join((f"batteries {name}", *filter(None, command.collect_usage_pieces(context))))
    formatter.parts += [
        f"(command-{name.replace(' ', '-')})=\n### `batteries {name}`",
        _fenced(usage),
        _words(command.help or ""),
    ]
    command.format_options(context, formatter)
    if hidden := [option_row(param) for param in command.params if param.hidden]:
        with formatter.section("Still read, for commands that manifests record"):
            formatter.write_dl(hidden)
    command.format_epilog(context, formatter)
    return "\n\n".join(formatter.parts)


def _fenced(text: str) -> str:
    return f"```text\n{text}\n```"


def _name(text: str) -> str:
    """Return an argument, or an option and its value, as code; a long value may be broken, a name may not."""
    option, space, value = (
        text.replace("|", "\\|").partition(" ") if text.startswith("-") else (text.replace("|", "\\|"), "", "")
    )
    return f"`{option}`" + (f" `{value}`" if space else "")


def _words(text: str) -> str:
    """Escape what Markdown would read as markup; an option is code, so that its hyphens stay two."""
    escaped = re.sub(r"([*_\[\]<>`|])", r"\\\1", text)
    return re.sub(r"(?<![\w-])(--[a-z][a-z-]*)", r"`\1`", escaped)
