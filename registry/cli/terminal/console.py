"""Terminal interface of the package: the ``batteries`` app, its output and its errors.

Data goes to stdout, messages to stderr. With ``--json`` stdout holds one JSON object, also after an error.
A module of commands imports :data:`app` and decorates its functions; :mod:`registry.cli.program` imports that module.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from batteries import __version__
from batteries.engine.processors import settle_openmp
from batteries.errors import BatteriesError, StoreError, StoreWarning
from batteries.io.canonical_json import Document
from batteries.text import plain
from registry.answers.answer import ErrorAnswer, Fault
from registry.cli.terminal import interruption
from registry.cli.terminal.choices import choice
from registry.cli.terminal.help import App, Group
from registry.stores.settings import Mode
from registry.stores.signed.trust_guard import SignerWarning
from registry.transfer.yanked_versions import YankedWarning

if TYPE_CHECKING:
    from rich.console import RenderableType

BUG = 1
USAGE = 2
NOT_VIABLE = 7
UNLOADED = ("failed to map segment", "Cannot allocate memory")  # words of the loader, which has no error of its own for it
UNWRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
WIDE = 500  # columns without a terminal, so that tables in files and pipes are not truncated

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
Wide = Annotated[bool, typer.Option("--wide", help="Show all columns, however many.")]
Registry = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="REGISTRY",
        help="A folder, hf://owner/repo or embedded.",
        show_default="BATTERIES_REGISTRY, config.toml, embedded",
    ),
]

InMode = Annotated[
    Mode | None,
    choice(Mode, code="MODE", help="Use of the network.", show_default="BATTERIES_MODE, online"),
]

app = App(
    name="batteries",
    cls=Group,
    help="Cells: trained miniature autoencoders, in a registry.",
    epilog="batteries list 'low/*'\nbatteries COMMAND --help  # options, an example, exit codes",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich help would add 0.1 s of imports to each --help
)


def _version(asked: bool) -> None:
    if asked:
        _write(f"batteries {__version__}\n")
        raise typer.Exit


@app.callback()
def batteries(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
) -> None:
    """Cells: trained miniature autoencoders, in a registry."""


def emit_json(value: Any) -> None:
    """Print a document or a JSON value on stdout, in ASCII, which every terminal can encode."""
    if isinstance(value, Document):
        value = value.model_dump(mode="json")
    _write(json.dumps(value, sort_keys=True, indent=2, allow_nan=False) + "\n")


def on_terminal() -> bool:
    """Tell whether stdout is a terminal, where tables fit its width; elsewhere fields are separated by tabs."""
    return _stdout().isatty()


def emit(*parts: RenderableType, wide: bool = False) -> None:
    """Print tables and text on stdout, with rich, an empty line between them.

    Args:
        parts: Tables and text.
        wide: Print every column, also where the terminal is narrower.
    """
    from rich.console import Console

    text, terminal = io.StringIO(), on_terminal()
    width = WIDE if wide or not terminal else None
    console = Console(file=text, force_terminal=terminal, width=width, highlight=False, markup=False)
    for number, part in enumerate(parts):
        if number:
            console.print()
        console.print(plain(part) if isinstance(part, str) else part)
    _write("".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()))


def emit_row(*fields: object) -> None:
    """Print one line of fields on stdout."""
    emit_rows([fields])


def emit_rows(rows: Iterable[Sequence[object]]) -> None:
    """Print lines of fields on stdout: separated by tabs, or in columns on a terminal."""
    lines = [[plain(str(field)) for field in fields] for fields in rows]
    if lines and on_terminal():
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines = [["  ".join(map(str.ljust, fields, widths)).rstrip()] for fields in lines]
    _write("".join("\t".join(fields) + "\n" for fields in lines))


def say(text: str) -> None:
    """Print a message on stderr, if it can be written: the exit code and stdout carry the result."""
    with contextlib.suppress(OSError):
        typer.echo(plain(text), err=True)


class AnsweredError(Exception):
    """End of a command that has printed its answer, with an exit code that may be any."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the app and return its exit code. Without arguments the process's own are used, and idle OpenMP threads sleep.

    0 success, 1 bug, 2 usage, 3 not found, 4 integrity or format, 5 transport, 6 refused, 7 not viable, 8 local disk.
    """
    if arguments is None:
        settle_openmp()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    as_json = "--json" in arguments
    try:
        with _warnings_said():
            app(arguments, prog_name="batteries")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if as_json and code == USAGE:  # from typer's parser; errors of batteries do not reach this line
            _emit_error({"error": _bare_error("USAGE", "invalid command line: see stderr")})
        return code
    except AnsweredError as end:
        return end.code
    except KeyboardInterrupt:
        return interruption.exit_code(signal.SIGINT)
    except BatteriesError as error:
        return _report(error, as_json)
    except Exception as error:
        return _report_unexpected(error, as_json)
    return 0


@contextlib.contextmanager
def _warnings_said() -> Iterator[None]:
    """Print warnings of batteries on stderr, even under ``-W error``; leave other warnings to Python."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, YankedWarning | StoreWarning | SignerWarning):
                say(f"warning: {message}")
            else:
                shown(message, category, *where, **more)

        warnings.simplefilter("default", StoreWarning)
        warnings.simplefilter("always", YankedWarning)
        warnings.simplefilter("always", SignerWarning)
        warnings.showwarning = show
        yield


def _write(text: str) -> None:
    """Write text to stdout, whole. A pipe closed by its reader is no error.

    Raises:
        StoreError: stdout cannot be written (``OUTPUT``).
    """
    stdout = _stdout()
    encoding = stdout.encoding or "utf-8"
    try:
        stdout.write(text.encode(encoding, "replace").decode(encoding))
        stdout.flush()
    except OSError as error:
        _give_up_stdout(stdout)
        if isinstance(error, BrokenPipeError):
            return
        raise StoreError("output cannot be written", code="OUTPUT", found=error.strerror) from error


def _give_up_stdout(stdout: TextIO) -> None:
    """Redirect stdout to the null device, since flushing its buffer at exit would raise again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())


def _stdout() -> TextIO:
    if sys.stdout is None:
        raise StoreError("output cannot be written", code="OUTPUT", found="a closed stdout")
    return sys.stdout


def _report(error: BatteriesError, as_json: bool) -> int:
    if as_json:
        _emit_error(ErrorAnswer(error=Fault.of(error)))
    say(f"error: {error}")
    return error.exit_code


def _emit_error(answer: Any) -> None:
    with contextlib.suppress(StoreError):  # stdout itself may fail; stderr and the exit code report it
        emit_json(answer)


def _bare_error(code: str, what: str) -> dict[str, Any]:
    """Return an error object for an error that is not a BatteriesError."""
    return {**dict.fromkeys(("expected", "found", "where", "remedy")), "code": code, "what": what}


def _report_unexpected(error: Exception, as_json: bool) -> int:
    """Report a bug, a lack of memory, or that typer's own output, such as help, cannot be written.

    The last is an OSError without a file name.
    """
    if _is_lack_of_memory(error):
        remedy = "Use fewer or smaller images at a time, or a machine with more memory."
        found = next(iter(str(error).splitlines()), "")[:200] or None
        return _report(StoreError("not enough memory", code="MEMORY", found=found, remedy=remedy), as_json)
    if isinstance(error, OSError) and error.filename is None and error.errno in UNWRITTEN and sys.stdout is not None:
        _give_up_stdout(sys.stdout)
        return _report(StoreError("output cannot be written", code="OUTPUT", found=error.strerror), as_json)
    return _report_bug(error, as_json)


def _is_lack_of_memory(error: Exception) -> bool:
    """Tell whether an error is a lack of memory: that of Python, torch, a GPU, or the loader of a library."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
        or (isinstance(error, ImportError) and any(words in str(error) for words in UNLOADED))
    )


def _report_bug(error: Exception, as_json: bool) -> int:
    if as_json:
        _emit_error({"error": _bare_error("BUG", f"{type(error).__name__}: {error}")})
    say("".join(traceback.format_exception(error)))
    say("error: internal error, a bug in batteries. Please report it with the lines above.")
    return BUG
