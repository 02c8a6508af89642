"""Command of an example that consists of runs: does the missing ones or one of them, lists them, or writes the report."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from run_store import RunStore

from batteries.errors import BatteriesError

Store = TypeVar("Store", bound=RunStore[Any, Any])


def obey(
    about: str,
    *,
    folder: Path,
    page: Path,
    store_of: Callable[[Path, Path], Store],
    run: Callable[[Any, Store], Any],
    write: Callable[[Store, Path], list[Any]],
    told: Callable[[Any, Any], str],
) -> None:
    """Obey the command line of an example.

    Args:
        about: Description of the example.
        folder: Default folder of the runs.
        page: Page of the report; known results are kept beside it, in a file with the suffix ``.jsonl``.
        store_of: Function from the folder and the file of kept results to their store.
        run: Function that returns the known result of a run, or does it.
        write: Function that writes the report and returns the runs without a result.
        told: Function that summarises a result in a line.
    """
    parser = _parser(about, folder)
    given = parser.parse_args()
    store = store_of(given.folder, page.with_suffix(".jsonl"))
    named = {one.name: one for one in store.runs}
    if given.jobs:
        print("\n".join(one.command for one in store.runs))
        return
    if given.only and given.only not in named:
        parser.error(f"no such run: {given.only}; --jobs lists them")
    try:
        if not given.report:
            for one in (named[given.only],) if given.only else store.runs:
                print(told(one, run(one, store)), flush=True)
        if not given.only:
            missing = write(store, page)
            print(f"written: {page}; missing: {', '.join(one.name for one in missing) or 'nothing'}")
    except BatteriesError as error:
        parser.exit(error.exit_code, f"{error}\n")


def _parser(about: str, folder: Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about)
    default = "/".join(folder.parts[-2:])
    parser.add_argument("--folder", type=Path, default=folder, help=f"folder of results and checkpoints; default: {default}")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--only", metavar="NAME", help="do one run, by a name that --jobs lists")
    ways.add_argument("--jobs", action="store_true", help="print the commands of all runs")
    ways.add_argument("--report", action="store_true", help="write the report from the existing results")
    return parser
