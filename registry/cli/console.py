"""The edge between the package and a terminal: the ``batteries`` app, where output goes, and what an error looks like.

Data goes to stdout, words to stderr. With ``--json`` stdout holds one JSON object, also where there is an error.
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

from batteries.engine.processors import settle_openmp
from batteries.errors import BatteriesError, StoreError, StoreWarning
from batteries.io.canonical_json import Document
from batteries.io.text import plain
from registry.answers.answer import ErrorAnswer, Fault
from registry.cli import interruption
from registry.transfer.yanked_versions import YankedWarning

if TYPE_CHECKING:
    from rich.console import RenderableType

BUG = 1
USAGE = 2
NOT_VIABLE = 7
UNWRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
WIDE = 500  # columns where there is no terminal: a table in a file or a pipe is not to be cut

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
Registry = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="REGISTRY",
        help="A folder, hf://owner/repo or embedded; else BATTERIES_REGISTRY, config.toml, the embedded one.",
    ),
]

InMode = Annotated[
    str | None,
    typer.Option("--mode", metavar="MODE", help="online, prefer-cache or offline; else BATTERIES_MODE, else online."),
]

app = typer.Typer(
    name="batteries",
    help="Cells: trained miniature autoencoders, in a registry.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help in boxes would cost each --help 0.1 s of imports
)


@app.callback()
def batteries() -> None:
    """Cells: trained miniature autoencoders, in a registry."""


def emit_json(value: Any) -> None:
    """Print a document, or a JSON value, on stdout, in ASCII, so that no terminal's encoding refuses it."""
    if isinstance(value, Document):
        value = value.model_dump(mode="json")
    _write(json.dumps(value, sort_keys=True, indent=2, allow_nan=False) + "\n")


def emit(*parts: RenderableType) -> None:
    """Print data for people on stdout."""
    from rich.console import Console

    text, terminal = io.StringIO(), _stdout().isatty()
    console = Console(file=text, force_terminal=terminal, width=None if terminal else WIDE, highlight=False, markup=False)
    for part in parts:
        console.print(part)
    _write(text.getvalue())


def emit_row(*fields: object) -> None:
    """Print one line of fields on stdout, with tabs between them, for people and for ``cut``."""
    emit_rows([fields])


def emit_rows(rows: Iterable[Sequence[object]]) -> None:
    """Print many such lines at once."""
    _write("".join("\t".join(plain(str(field)) for field in fields) + "\n" for fields in rows))


def say(text: str) -> None:
    """Print words on stderr, where there is one that takes them: the exit code and stdout say what matters."""
    with contextlib.suppress(OSError):
        typer.echo(plain(text), err=True)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the app, and answer with an exit code; where the process is this command alone, its threads sleep while they wait.

    0 done, 1 a bug of ours, 2 usage, 3 not found, 4 integrity or format, 5 transport, 6 refused, 7 not viable, 8 local disk.
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
        if as_json and code == USAGE:  # the command line's own parser; our errors do not pass here
            _emit_error({"error": _bare_error("USAGE", "a command line that cannot be understood: see stderr")})
        return code
    except KeyboardInterrupt:
        return interruption.exit_code(signal.SIGINT)
    except BatteriesError as error:
        return _report(error, as_json)
    except Exception as error:
        return _report_unexpected(error, as_json)
    return 0


@contextlib.contextmanager
def _warnings_said() -> Iterator[None]:
    """Our warnings as lines on stderr; they stop no command, whatever the interpreter was told. Others as Python shows them."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, YankedWarning | StoreWarning):
                say(f"warning: {message}")
            else:
                shown(message, category, *where, **more)

        warnings.simplefilter("default", StoreWarning)
        warnings.simplefilter("always", YankedWarning)
        warnings.showwarning = show
        yield


def _write(text: str) -> None:
    """Text to stdout, whole. A reader who has read enough is no error.

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
        raise StoreError("the output cannot be written", code="OUTPUT", found=error.strerror) from error


def _give_up_stdout(stdout: TextIO) -> None:
    """What is left in its buffer would raise again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())


def _stdout() -> TextIO:
    if sys.stdout is None:
        raise StoreError("the output cannot be written", code="OUTPUT", found="a closed stdout")
    return sys.stdout


def _report(error: BatteriesError, as_json: bool) -> int:
    if as_json:
        _emit_error(ErrorAnswer(error=Fault.of(error)))
    say(f"error: {error}")
    return error.exit_code


def _emit_error(answer: Any) -> None:
    with contextlib.suppress(StoreError):  # where stdout is what fails, stderr and the exit code say so
        emit_json(answer)


def _bare_error(code: str, what: str) -> dict[str, Any]:
    """Error object for what is not one of our errors."""
    return {**dict.fromkeys(("expected", "found", "where", "remedy")), "code": code, "what": what}


def _report_unexpected(error: Exception, as_json: bool) -> int:
    """Bug; or the parser's own output, such as help, which cannot be written: an error about a file would name it."""
    if isinstance(error, OSError) and error.filename is None and error.errno in UNWRITTEN and sys.stdout is not None:
        _give_up_stdout(sys.stdout)
        return _report(StoreError("the output cannot be written", code="OUTPUT", found=error.strerror), as_json)
    return _report_bug(error, as_json)


def _report_bug(error: Exception, as_json: bool) -> int:
    if as_json:
        _emit_error({"error": _bare_error("BUG", f"{type(error).__name__}: {error}")})
    say("".join(traceback.format_exception(error)))
    say("error: this is a bug of ours, not a fault of yours. Please report it with the lines above.")
    return BUG
