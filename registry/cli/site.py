"""``batteries site`` and ``batteries browse``: the static site of a registry. Torch is imported only when a command runs."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

import registry
from batteries.io.canonical_json import sha256
from batteries.io.home import private_folder
from registry.answers.site import SiteAnswer
from registry.cli.terminal.console import AsJson, InMode, Registry, app, emit_json, emit_row, say
from registry.cli.terminal.help import BROWSE, SHARE
from registry.cli.terminal.options import Threads, refuse_no_place, use
from registry.cli.terminal.progress import TaskBar
from registry.stores import settings
from registry.stores.settings import Mode

SITES = "sites"  # folder in the cache


@app.command(rich_help_panel=SHARE, epilog="batteries site ./public --registry hf://me/cells")
def site(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder: empty, or of an earlier site.")],
    address: Annotated[
        str | None,
        typer.Option(
            "--address", metavar="REGISTRY", help="Registry in commands on the pages.", show_default="its own address"
        ),
    ] = None,
    registry_: Registry = None,
    mode: InMode = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Make a static site of a registry, with a page for each version.

    The first page is a table of the cells, and a chart. The site opens from its folder, and can be served by a static Space of
    the Hub, by Pages, or below any address. Run again, the command makes pages whose cells, verdicts or relations changed, and
    removes those that are gone.
    """
    use(context, threads)
    refuse_no_place(out)
    _answer(_built(out, registry_, address, mode), as_json)


@app.command(rich_help_panel=BROWSE, epilog="batteries browse --registry hf://me/cells")
def browse(
    context: typer.Context,
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the path only.")] = False,
    registry_: Registry = None,
    mode: InMode = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Look at a registry in the web browser.

    Its site is made in the cache, as `batteries site` makes it, and opened.
    """
    use(context, threads)
    folder = sha256(registry.open_store(registry_).url.encode())[:16]
    found = _built(private_folder(SITES, folder), registry_, None, mode)
    if not no_open and not webbrowser.open(Path(found.front).as_uri()):
        say("no web browser found: open the page by its path")
    _answer(found, as_json)


def _built(out: Path, registry_: str | None, address: str | None, mode: Mode | None) -> SiteAnswer:
    with TaskBar("making the site", "steps", None) as bar:
        return registry.build_site(out, registry_, address=address, mode=settings.mode(mode), progress=bar.moved)


def _answer(found: SiteAnswer, as_json: bool) -> None:
    if as_json:
        emit_json(found)
    else:
        emit_row(found.front)
    kept = found.pages - found.made
    say(f"files of the site: {found.pages}; made: {found.made}, unchanged: {kept}, removed: {found.removed}")
