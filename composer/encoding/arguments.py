"""Checks of arguments before a cell is fetched or an image is read. No torch here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from batteries.errors import InputError
from batteries.io import atomic_files
from composer.encoding.record import Token
from composer.sealed.reader import path_of

PARQUET = ".parquet"
TOKEN_FILES = (".safetensors", ".npz", PARQUET)
PNG = ".png"
PICTURES = {PNG, ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm"}  # names that are not those of a folder
MOST = 4096  # images of a group


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


def token_file(out: str | Path) -> Path:
    """Return the path of a file of tokens, in a format that can be written here.

    Raises:
        BatteriesError: as :func:`target_file`.
        InputError: an extra that is not installed (``EXTRA``).
    """
    path = target_file(out, TOKEN_FILES, "tokens")
    if path.suffix == PARQUET:
        pyarrow()
    return path


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


def picture_place(out: str | Path) -> Path:
    """Return the path of a folder, or of a PNG file.

    Raises:
        InputError: a picture of another format (``SUFFIX``), or a file in the folder's place (``FOLDER``).
    """
    path = path_of(out)
    if path.suffix.lower() in PICTURES:
        return target_file(path, (PNG,), "pictures")
    with atomic_files.typed(path):
        if path.exists() and not path.is_dir():
            raise InputError("file in the place of a folder", code="FOLDER", expected="a folder or nothing", where=path)
    return path


def pyarrow() -> tuple[Any, Any]:
    """Return pyarrow and its module of Parquet files.

    Raises:
        InputError: the extra is not installed, or does not work (``EXTRA``).
    """
    try:
        import pyarrow as arrow
        from pyarrow import parquet as files
    except Exception as error:  # one that is broken raises anything
        missing = isinstance(error, ModuleNotFoundError)
        raise InputError(
            "pyarrow is not installed" if missing else "pyarrow is installed and cannot be imported",
            code="EXTRA",
            found=None if missing else repr(error),
            remedy="pip install 'svae-batteries[parquet]'",
        ) from error
    return arrow, files
