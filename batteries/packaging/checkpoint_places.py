"""Checkpoints at places: a file, a folder, a glob, or ``hf://owner/repo[@revision][:pattern]``. Does not import torch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath

import batteries
from batteries import path_patterns
from batteries.cell.artifact_kinds import name_in
from batteries.cell.cell import SUFFIX
from batteries.cell.manifest import Manifest
from batteries.errors import BatteriesError, InputError, NotFoundError
from batteries.io import atomic_files

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", SUFFIX)
MAX_FOREIGN = 2**30  # bytes: weights of the largest cell in float64, with two moments of an optimiser, and as much again
MAX_BESIDE = 2**24  # bytes of a text beside a checkpoint
HUB = re.compile(r"hf://(?P<repository>[^/@:]+/[^/@:]+)(@(?P<revision>[^:]+))?(:(?P<pattern>.+))?")
HUB_FORM = "hf://owner/repo[@revision][:pattern]"


@dataclass(frozen=True)
class CheckpointFile:
    """A file that may be a checkpoint.

    Attributes:
        where: Path, or address on the Hub, in messages.
        inside: Path relative to the folder, glob or repository that it was found in.
        read: Function that reads the file.
        beside: Function that reads another file of its folder by name.
        folder: Folder that it was found in; None on the Hub.
    """

    where: str
    inside: PurePosixPath
    read: Callable[[], bytes] = field(repr=False)
    beside: Callable[[str], bytes] = field(repr=False)
    folder: Path | None = None

    def __str__(self) -> str:
        return self.where


def is_single(places: Iterable[str]) -> bool:
    """Return True for one place that names one file, whether it exists or not."""
    place, *more = places
    return not more and not place.startswith("hf://") and not path_patterns.is_pattern(Path(place)) and not Path(place).is_dir()


def files_at(place: str) -> list[CheckpointFile]:
    """List the checkpoints at a place, sorted by path; packaged cells, models and maps among local files are left out.

    Args:
        place: File, folder, glob, or ``hf://owner/repo[@revision][:pattern]``, in whose pattern ``*`` also matches ``/``.

    Raises:
        NotFoundError: no checkpoint in a folder or repository, or none that matches (``NO_FILE``).
        InputError: malformed address (``PLACE``).
        BatteriesError: any error of reading the list of files of a repository.
    """
    if place.startswith("hf://"):
        found = _on_hub(place)
    else:
        path = Path(place)
        with atomic_files.typed(path):
            found = _here(path)
    if not found:
        expected = f"files ending in {' | '.join(SUFFIXES)}"
        raise NotFoundError("no checkpoint found", code="NO_FILE", expected=expected, where=place)
    return found


def local_file(path: str | Path, folder: Path | None = None) -> CheckpointFile:
    """Return the checkpoint at a path, relative to a folder or to its own."""
    path = Path(path)
    folder = path.parent if folder is None else folder
    inside = PurePosixPath(path.relative_to(folder).as_posix())
    return CheckpointFile(str(path), inside, partial(_bytes_of, path), partial(_beside, path), folder)


def _here(path: Path) -> list[CheckpointFile]:
    if path.is_dir():
        return [local_file(one, path) for one in path_patterns.below(path) if _may_be(one)]
    if path_patterns.is_pattern(path):
        folder, found = path_patterns.matching(path)
        return [local_file(one, folder) for one in found if _may_be(one)]
    return [local_file(path)]


def _may_be(path: Path) -> bool:
    """Return True for a file with the suffix of a checkpoint that is neither a packaged cell nor another artifact."""
    return path.suffix in SUFFIXES and not (path.suffix == SUFFIX and (_is_cell(path) or _is_artifact(path)))


def _is_cell(path: Path) -> bool:
    try:
        Manifest.from_bytes(atomic_files.read(path.with_suffix(".json"), limit=MAX_BESIDE), where=path)
    except BatteriesError:
        return False
    return True


def _is_artifact(path: Path) -> bool:
    try:
        return name_in(atomic_files.mapped(path, limit=MAX_FOREIGN, links=True)) is not None
    except BatteriesError:
        return False


def _on_hub(place: str) -> list[CheckpointFile]:
    parts = HUB.fullmatch(place)
    if not parts:
        raise InputError("invalid address of a repository", code="PLACE", expected=HUB_FORM, found=place)
    repository = batteries.HubRepository(parts["repository"], revision=parts["revision"])
    commit = repository.resolve().commit
    tree = repository.tree(commit)
    pattern = parts["pattern"] or "*"
    chosen = [name for name in sorted(tree) if PurePosixPath(name).suffix in SUFFIXES and fnmatchcase(name, pattern)]
    return [_hub_file(repository, commit, PurePosixPath(name), tree) for name in chosen]


def _hub_file(repository: batteries.HubRepository, commit: str, inside: PurePosixPath, tree: Container[str]) -> CheckpointFile:
    where = f"{repository.url}:{inside}"

    def beside(name: str) -> bytes:
        path = str(inside.with_name(name))
        if path not in tree:  # costs no request
            raise NotFoundError("no such file", code="NO_FILE", expected=path, where=where)
        return repository.read(path, commit=commit, limit=MAX_BESIDE)

    return CheckpointFile(where, inside, partial(repository.read, str(inside), commit=commit, limit=MAX_FOREIGN), beside)


def _bytes_of(path: Path) -> bytes:
    """Read a file, or what a link to it names, since a download cache links to files of other names."""
    with atomic_files.typed(path):
        real = Path(os.path.realpath(path))
        if not real.is_file():
            raise NotFoundError("no such file", code="NO_FILE", expected="a checkpoint", where=path)
    return atomic_files.read(real, limit=MAX_FOREIGN)


def _beside(path: Path, name: str) -> bytes:
    return atomic_files.read(path.with_name(name), limit=MAX_BESIDE, links=True)
