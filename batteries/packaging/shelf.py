"""Many checkpoints to adopt: the options of each, and the phases of one run as its versions. Does not import torch.

Beside the options of a command, a file ``adopt.toml`` has options by glob, relative to the folder of the checkpoints::

    ["*"]
    input = "plain"
    noise = "batteries"

    ["ablations/*.pt"]
    heads = 4
"""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from batteries.cell.manifest import OWN_MIX, NoiseMix
from batteries.cell.spec import Activation, ActivationSites, Readout, RowNorm
from batteries.errors import FormatError
from batteries.io import atomic_files
from batteries.io.canonical_json import Document, fields_of
from batteries.io.texts import toml_text
from batteries.packaging.checkpoint_places import SUFFIXES, CheckpointFile

if TYPE_CHECKING:
    from batteries.packaging.foreign_array import Bank
    from batteries.packaging.foreign_checkpoint import Opened

DEFAULTS = "adopt.toml"
MAX_DEFAULTS = 2**20
DOMAIN = {"noise", "photos"}
OF_DOMAIN = DOMAIN | {"types"}  # what another domain replaces
NUMBERED = re.compile(
    r"(?:(?P<run>.+?)[-_.])?(?:epoch|ep|step)[-_]?(?P<number>\d{1,9})(?:[-_.](?:checkpoint|ckpt))?", re.IGNORECASE
)
NAMED = re.compile(r"(?:(?P<run>.+?)[-_.])?(?P<phase>final|last|best)(?:[-_.](?:checkpoint|ckpt))?", re.IGNORECASE)
NAMED_VERSIONS = {"final": "1.0.0", "last": "1.0.0", "best": "2.0.0"}  # later than those of epochs; the best is the newest


class Options(Document):
    """Options of one adoption, as the command has them; null where nothing says them.

    Attributes:
        name: Name of the cell, with ``{band}``, ``{stem}`` and ``{parent}`` filled in per file.
        input: Scale of the training images, as text.
        noise: Mix of the noise types to measure on.
        types: Names of these types, separated by commas; by default all 16.
        photos: Folders and globs of photographs to measure on.
        key: Entry with the weights.
        size: Side of the training images.
        width: Width D.
        heads: Attention heads.
        activation: Activation.
        activation_sites: Layers that have it.
        row_norm: Norm of the rows of M.
        readout: Way from M to the decoder.
        unbounded_alpha: Attention without its limit.
        family: Family of the cell.
        description: Description.
        license: Licence of the weights.
    """

    name: str | None = None
    input: str | None = None
    noise: NoiseMix | None = None
    types: str | None = None
    photos: tuple[str, ...] = ()
    key: str | None = None
    size: int | None = None
    width: int | None = None
    heads: int | None = None
    activation: Activation | None = None
    activation_sites: ActivationSites | None = None
    row_norm: RowNorm | None = None
    readout: Readout | None = None
    unbounded_alpha: bool | None = None
    family: str | None = None
    description: str | None = None
    license: str | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """Options without which a checkpoint cannot be measured."""
        domain = [] if self.noise or self.photos else ["--noise, or --photos"]
        return (*(f"--{name}" for name in ("name", "input") if getattr(self, name) is None), *domain)

    @property
    def of_the_function(self) -> dict[str, Any]:
        """Fields of the spec that tensors do not tell, by the names of :func:`batteries.adopt`."""
        names = ("heads", "activation", "activation_sites", "row_norm", "readout")
        return {**{name: getattr(self, name) for name in names}, "bounded_alpha": False if self.unbounded_alpha else None}

    def command(self, place: str) -> str:
        """Return the command that repeats the adoption of the checkpoint at a place."""
        words = ["batteries", "adopt", place]
        for name, value in self:
            option = f"--{name.replace('_', '-')}"
            if value is True or (name == "noise" and value == OWN_MIX):
                words.append(option)
            elif value not in (None, False, ()):
                words += [word for one in (value if isinstance(value, tuple) else [value]) for word in (option, str(one))]
        return shlex.join(words)


@dataclass(frozen=True)
class ShelfItem:
    """A checkpoint to adopt, or a bank of an array.

    Attributes:
        file: File.
        options: Options for it; of a bank with its key.
        run: Name of its run: of the file or of the bank's battery, or what the phases of one run have in common.
        version: Version of the cell, if it is one of several phases of a run.
        array: Name of the array of a bank.
        opened: The file in memory, once it is read.
    """

    file: CheckpointFile
    options: Options
    run: str
    version: str | None
    array: str | None = None
    opened: Opened | None = None

    @property
    def where(self) -> str:
        """Path or address in messages; of a bank with its key."""
        return str(self.opened or self.file)


def items(files: Sequence[CheckpointFile], said: Mapping[str, Any]) -> list[ShelfItem]:
    """Return the checkpoints with their options: those of the user, and for others those of ``adopt.toml``.

    Args:
        files: Checkpoints.
        said: Options of the user by name; empty ones are left out.

    Raises:
        FormatError: malformed ``adopt.toml`` (``DEFAULTS``).
    """
    given = {name: value for name, value in said.items() if value not in (None, (), False)}
    tables = {folder: _tables(folder) for folder in {file.folder for file in files}}
    phases = phases_of(files)
    return [ShelfItem(file, _options(file, tables[file.folder], given), *phases[file.where]) for file in files]


def cells_of(item: ShelfItem, opened: Opened) -> list[ShelfItem]:
    """Return the cells of a checkpoint that is read: itself, or the banks of an array, all of them or that of its key.

    A bank has the name of its battery, or that of the array and the battery's number; its phase is its version, as of files.

    Args:
        item: Checkpoint.
        opened: Contents of its file.
    """
    array, key = opened.array, item.options.key
    if array is None or (key is not None and key not in array.banks):
        return [replace(item, opened=opened)]
    title = array.title or item.run
    names = {one: _name_of(bank, title) for one, bank in array.banks.items()}
    files = [replace(item.file, where=one, inside=PurePosixPath(f"{name}.bank")) for one, name in names.items()]
    return [
        replace(
            item,
            options=item.options.model_copy(update={"key": one}),
            run=run,
            version=version or item.version,
            array=title,
            opened=replace(opened, where=f"{item.file}:{one}"),
        )
        for one, (run, version) in _numbered(phases_of(files)).items()
        if key in (None, one)
    ]


def _name_of(bank: Bank, array: str) -> str:
    """Return the name of a bank as that of a file of its own, without a suffix."""
    title = (bank.title or f"{array}-{bank.battery}").replace("/", "-")
    suffix = PurePosixPath(title).suffix
    name = title.removesuffix(suffix) if suffix in SUFFIXES else title
    return f"{name}_{bank.phase}" if bank.phase else name


def _numbered(runs: Mapping[str, tuple[str, str | None]]) -> dict[str, tuple[str, str | None]]:
    """Add the number of its bank to a name that several banks have."""
    count = Counter(runs.values())
    several = {key: f"{run}-{key.rpartition('.')[2]}" for key, (run, version) in runs.items() if count[run, version] > 1}
    return {key: (several.get(key, run), version) for key, (run, version) in runs.items()}


def phases_of(files: Iterable[CheckpointFile]) -> dict[str, tuple[str, str | None]]:
    """Return the run of each file, and its version where a folder has several phases of the run.

    Epoch N is version 0.N.0, the final one 1.0.0, the best 2.0.0. A file that is the only phase of its run keeps its name.

    >>> from batteries.packaging.checkpoint_places import local_file
    >>> phases_of(map(local_file, ["a/x_epoch10.pt", "a/x_epoch20.pt", "a/x_best.pt"]))["a/x_epoch20.pt"]
    ('x', '0.20.0')
    """
    files = list(files)
    runs: dict[tuple[str, PurePosixPath, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        if phase := _phase(file.inside):
            run, version = phase
            runs[str(file.folder), file.inside.parent, run][version].append(file.where)
    found: dict[str, tuple[str, str | None]] = {file.where: (file.inside.stem, None) for file in files}
    for (_, parent, run), versions in runs.items():
        if len(versions) > 1 and all(len(where) == 1 for where in versions.values()):
            found |= {where: (run or parent.name or "run", version) for version, (where,) in versions.items()}
    return found


def _phase(path: PurePosixPath) -> tuple[str, str] | None:
    """Return run and version that the name of a file tells."""
    if numbered := NUMBERED.fullmatch(path.stem):
        return numbered["run"] or "", f"0.{int(numbered['number'])}.0"
    if named := NAMED.fullmatch(path.stem):
        return named["run"] or "", NAMED_VERSIONS[named["phase"].lower()]
    return None


def _options(file: CheckpointFile, tables: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any]) -> Options:
    """Merge options: later tables win over earlier ones, and those of the user over all; a domain replaces the other."""
    merged: dict[str, Any] = {}
    matching = [table for pattern, table in tables.items() if fnmatchcase(str(file.inside), pattern)]
    for table in (*matching, given):
        if DOMAIN & table.keys():
            merged = {name: value for name, value in merged.items() if name not in OF_DOMAIN}
        merged |= table
    return Options(**merged)


def _tables(folder: Path | None) -> dict[str, dict[str, Any]]:
    """Read the options by glob in a folder or beside it; none on the Hub, whose files choose nothing on this machine."""
    if folder is None:
        return {}
    with atomic_files.typed(folder):
        path = next((one for one in (folder / DEFAULTS, folder.absolute().parent / DEFAULTS) if one.is_file()), None)
    if path is None:
        return {}
    try:
        tables = toml_text.parse(atomic_files.read(path, limit=MAX_DEFAULTS, links=True), where=path, limit=MAX_DEFAULTS)
        if wrong := [name for name, table in tables.items() if not isinstance(table, dict)]:
            raise _bad_defaults(f"{', '.join(wrong)} outside of a table", path)
        found = {pattern: _named_as_fields(table) for pattern, table in tables.items()}
        for table in found.values():
            Options(**table)
    except FormatError as error:
        if error.code != "TOML":
            raise
        raise _bad_defaults(error.found, path) from error
    except ValidationError as error:
        raise _bad_defaults(fields_of(error), path) from error
    return found


def _named_as_fields(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("-", "_"): tuple(value) if isinstance(value, list) else value for name, value in table.items()}


def _bad_defaults(found: object, path: Path) -> FormatError:
    expected = 'tables such as ["*.pt"] with options of the command'
    return FormatError("invalid defaults", code="DEFAULTS", expected=expected, found=found, where=path)
