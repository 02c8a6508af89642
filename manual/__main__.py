"""The manual's commands.

    python -m manual [FOLDER]              # build the pages into FOLDER (out/manual) and check their links
    python -m manual notebooks [NAME ...]  # run tutorials and write their notebooks
    python -m manual pictures              # draw the pictures of the concepts

Notebooks are run in empty folders with an empty cache, that of the Hub against the tests' own server.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from manual import notebooks, pictures, site


@contextlib.contextmanager
def surroundings() -> Iterator[None]:
    """Work in an empty folder, with an empty cache, and with the tests' Hub in place of the Hub."""
    from tests.support.hubserver import serving

    before, kept = Path.cwd(), dict(os.environ)
    with tempfile.TemporaryDirectory() as folder, serving() as hub:
        work = Path(folder) / "work"
        work.mkdir()
        os.environ |= {"BATTERIES_HOME": str(Path(folder) / "home"), "HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token}
        os.chdir(work)
        try:
            yield
        finally:
            os.chdir(before)
            os.environ.clear()
            os.environ.update(kept)


def processor_seconds() -> float:
    """Return the processor time of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def write(names: list[str]) -> None:
    """Run tutorials and write their notebooks; all of them without names."""
    for path in (path for path in notebooks.scripts() if not names or path.stem in names):
        with surroundings():
            started = processor_seconds()
            outputs = notebooks.run(path, lambda cell: print(f"--- {cell.kind}: {cell.text.splitlines()[0]}", flush=True))
            seconds = processor_seconds() - started
        print(f"{seconds:6.1f} s  {notebooks.write(path, outputs, seconds)}")


def main(arguments: list[str]) -> int:
    """Run a command of this module; return the exit code."""
    if arguments[:1] == ["notebooks"]:
        write(arguments[1:])
        return 0
    if arguments[:1] == ["pictures"]:
        print(*pictures.write(), sep="\n")
        return 0
    faults = site.build(Path(arguments[0] if arguments else "out/manual"))
    print(*faults, sep="\n", file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
