"""Plain help at 80 columns, without rich: options and commands in groups, a worked example, the exit codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from registry.cli.terminal.choices import with_values

BROWSE, MAKE, TEST, SHARE, MAINTAIN = COMMAND_GROUPS = ("Find and fetch", "Make and combine", "Test", "Publish", "Maintain")
MOST_TOGETHER = 8  # options that need no groups
NAME_COLUMNS = 28  # of the names of options; a longer name has a line of its own
EXIT_CODES = """0 success, 1 bug, 2 usage, 3 not found, 4 integrity or format, 5 transport,
6 refused, 7 not viable, 8 local disk"""
OTHER = "Options"
GROUPS = {  # of options, by parameter
    "Data": (
        "key",
        "fit",
        "task",
        "beside",
        "noise",
        "types",
        "photos",
        "allow_probe_photos",
        "augment",
        "mix",
        "size",
        "input",
        "images",
        "probe",
    ),
    "Training": (
        *("steps", "batch", "fixed_batch", "optimiser", "rate", "momentum", "schedule", "clip", "adaptive_clip"),
        *("kl", "free", "warm_up", "discipline", "every"),
        *("hand", "boost", "later_boost", "fixed_readout", "hold", "host_rate", "start", "teacher", "distil", "run", "events"),
    ),
    "Cell": (
        *("preset", "set", "bottleneck", "arrays"),
        *("width", "heads", "activation", "activation_sites", "row_norm", "unbounded_alpha"),
    ),
    "Label": ("name", "version", "family", "description", "license", "data_license", "data_source"),
    "Output": ("out", "tokens", "fresh", "graph", "html", "attest", "sign", "dry_run", "wide", "as_json"),
    "General": ("seed", "registry", "registry_", "mode", "threads", "engine", "workers", "help"),
}
GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}
Rows = dict[str, list[tuple[str, str]]]


class Command(TyperCommand):
    """A command whose epilog is its worked example."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of a command line, some of whose options may lack a value."""
        return super().parse_args(ctx, with_values(args))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the usage line's parts: arguments by their metavar."""
        return [self.options_metavar or "", *(_argument_name(param) for param in self.get_params(ctx) if not _is_option(param))]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then options in groups."""
        _write_parameters(self.get_params(ctx), formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the example and the exit codes."""
        _write_end(self.epilog, formatter)


class Group(TyperGroup):
    """The program, which lists its commands in groups, one sentence each."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write options, then commands in groups."""
        _write_parameters(self.get_params(ctx), formatter)
        rows: Rows = {group: [] for group in COMMAND_GROUPS}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            rows.setdefault(command.rich_help_panel or "Commands", []).append((name, first_sentence(command.help)))
        _write_groups(rows, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the example and the exit codes."""
        _write_end(self.epilog, formatter)


class App(typer.Typer):
    """A typer app whose commands have this module's help."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """Register a function as a command; see :meth:`typer.Typer.command`."""
        return super().command(name, **{"cls": Command, **settings})


def first_sentence(text: str | None) -> str:
    """Return the first sentence of a text, on one line.

    >>> first_sentence("Train a cell. It is measured.")
    'Train a cell.'
    """
    words, stop, _ = " ".join((text or "").split()).partition(". ")
    return words + stop.strip()


def option_row(param: Any) -> tuple[str, str]:
    """Return an option's names and value, and its help with the default."""
    value = "" if param.is_flag else f" {param.metavar or param.name.upper()}"
    return ", ".join(sorted(param.opts, key=len)) + value, " ".join(filter(None, (param.help, _note(param))))


def _note(param: Any) -> str:
    """Return what is required or the default; nothing for a flag and for an empty default."""
    if param.required:
        return "[required]"
    shown = param.show_default if isinstance(param.show_default, str) else param.default
    return "" if param.is_flag or shown in (None, "", (), []) or callable(shown) else f"[{shown}]"


def _write_parameters(params: Iterable[Any], formatter: Any) -> None:
    shown = [param for param in params if not param.hidden]
    arguments = [(_argument_name(param), param.help or "") for param in shown if not _is_option(param)]
    options = [param for param in shown if _is_option(param)]
    rows: Rows = {group: [] for group in (OTHER, *GROUPS)}
    for param in options:
        rows[GROUP_OF.get(param.name, OTHER) if len(options) > MOST_TOGETHER else OTHER].append(option_row(param))
    _write_groups({"Arguments": arguments, **rows}, formatter)


def _write_groups(rows: Rows, formatter: Any) -> None:
    """Write the groups that have rows, their second columns below each other."""
    lengths = [len(name) for lines in rows.values() for name, _ in lines]
    column = max((length for length in lengths if length <= NAME_COLUMNS), default=0)
    for group, lines in rows.items():
        if lines:
            with formatter.section(group):
                formatter.write_dl([(name.ljust(column), words) for name, words in lines], col_max=column)


def _write_end(example: str | None, formatter: Any) -> None:
    parts = {"Example": example or "", "Exit codes": EXIT_CODES}
    for heading, text in parts.items():
        if text:
            with formatter.section(heading):
                formatter.write("".join(f"  {line}\n" for line in text.splitlines()))


def _is_option(param: Any) -> bool:
    return bool(param.param_type_name == "option")


def _argument_name(param: Any) -> str:
    return str(param.metavar or param.name.upper())
