"""Checks of the arguments that encoding and reconstruction share, before an image is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_args

from batteries.cell.cell import Cell
from batteries.errors import InputError
from batteries.io import atomic_files
from composer.container.container import Container
from composer.encoding.record import Token
from composer.sealed.reader import path_of
from composer.wiring.compose import compose
from composer.wiring.wired_model import Wired

MOST = 4096  # images of a group

Cells = Cell | Iterable[Cell] | Mapping[str, Cell] | Container | Wired


def container_of(cells: Cells) -> Container:
    """Container to run: the one that is given, of a composition that of its cells, or one composed of cells.

    Raises:
        BatteriesError: as :func:`composer.compose`.
        IntegrityError: a container whose weights have changed (``CONTAINER_CHANGED``).
    """
    if not isinstance(cells, Container | Wired):
        return compose(cells)
    cells.container.verify()
    return cells.container


def checked_tokens(tokens: Token | Iterable[Token]) -> tuple[Token, ...]:
    """Return tokens by name, each once, in the order omega, S, M.

    Raises:
        InputError: none, or an unknown one (``TOKENS``).
    """
    known: tuple[Token, ...] = get_args(Token)
    given = [tokens] if isinstance(tokens, str) else list(tokens) if isinstance(tokens, Iterable) else [repr(tokens)]
    if not given or any(token not in known for token in given):
        found = ", ".join(map(str, given))[:80] or "none"
        raise InputError("unknown tokens", code="TOKENS", expected=f"some of {', '.join(known)}", found=found)
    return tuple(token for token in known if token in given)


def checked_batch(batch: int) -> int:
    """Return the number of images of a group.

    Raises:
        InputError: not an integer from 1 to 4096 (``BATCH``).
    """
    if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= MOST:
        raise InputError("batch out of range", code="BATCH", expected=f"1 to {MOST} images", found=repr(batch)[:40])
    return batch


def target_file(out: str | Path, suffixes: Iterable[str], what: str) -> Path:
    """Return the path of a file to be written.

    Raises:
        InputError: no path (``BAD_PATH``), a suffix of another format (``SUFFIX``), or a folder (``FOLDER``).
        FormatError: a symbolic link, a pipe or a device of that name (``SYMLINK``, ``NOT_A_FILE``).
    """
    path = path_of(out)
    if path.suffix not in suffixes:
        expected = f"a name that ends in {' or '.join(suffixes)}"
        raise InputError(f"unknown format of {what}", code="SUFFIX", expected=expected, found=path)
    with atomic_files.typed(path):
        if path.is_dir():
            raise InputError("folder in the place of a file", code="FOLDER", expected="a file or nothing", where=path)
        atomic_files.refuse_special(path)
    return path
