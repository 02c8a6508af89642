"""Arrays: one safetensors file of many cells, with tensors ``banks.{i}.<name>``, and its ``config.json`` read as data.

The config is that of the public builder: ``battery_kwargs`` describe every bank, ``batteries`` has a row for each battery, and
``epoch_phase_names`` are the phases of training of which each battery has a bank: bank i is battery i // K in phase i % K of K.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from batteries import short_repr
from batteries.errors import FormatError, NotFoundError
from batteries.io.texts.hostile_json import load_loose
from batteries.packaging import foreign_config
from batteries.packaging.checkpoint_places import MAX_BESIDE, CheckpointFile
from batteries.packaging.final_report import dataset_of
from batteries.text import listed, unicode

CONFIG = "config.json"
MAX_BANKS = 4096
BANK = re.compile(r"(?P<mark>(?:.*?\.)?banks\.)(?P<index>0|[1-9]\d{0,5})\.(?P<name>.+)", re.DOTALL)
TITLES = ("name", "hf_path", "variant", "source")  # of a row, in the order in which they are taken
OF_THE_IMAGES = (*foreign_config.SIZE, "dataset")  # settings beside those of the banks that concern them


@dataclass(frozen=True, eq=False)
class Bank:
    """A cell of an array.

    Attributes:
        key: Entry of the file that has its weights, such as ``banks.3``.
        battery: Number of its battery; that of the bank where the config does not tell.
        title: Name of its battery in the config, if it has one.
        phase: Phase of training, if the config tells it.
        loaded: Weights under the key, and beside them its config and claims, as in a file of its own.
        lines: Choices made in reading the array, a sentence each.
    """

    key: str
    battery: int
    title: str | None
    phase: str | None
    loaded: Mapping[str, Any]
    lines: tuple[str, ...]

    __repr__ = short_repr.fields


@dataclass(frozen=True, eq=False)
class Array:
    """An array of cells.

    Attributes:
        title: Name of the array in its config, if it has one.
        banks: Banks by key, in the order of their numbers.
    """

    title: str | None
    banks: Mapping[str, Bank]

    __repr__ = short_repr.fields


def array_in(loaded: Mapping[str, Any], file: CheckpointFile) -> Array | None:
    """Return the array in a file; None if no tensor is named as a bank's.

    Rows of the config are believed where it is certain which bank each is of; otherwise banks have no names and claims, and a
    line says so.

    Args:
        loaded: Tensors by name, and a config of the file's header.
        file: File, beside which the config may be.

    Raises:
        FormatError: more than 4096 banks (``ST_TENSORS``), banks under several prefixes (``STATE_DICT``), or a config that is
            malformed, or that has settings of single banks and does not tell which (``CONFIG``).
        BatteriesError: any error of reading the config, unless there is none.
    """
    found = {name: match for name in loaded if (match := BANK.fullmatch(name))}
    if not found:
        return None
    tensors: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for name, match in found.items():
        tensors[int(match["index"])][match["name"]] = loaded[name]
    if len(tensors) > MAX_BANKS:
        raise FormatError("too many banks", code="ST_TENSORS", expected=MAX_BANKS, found=len(tensors), where=file)
    marks = sorted({match["mark"] for match in found.values()})
    if len(marks) > 1:
        raise FormatError("banks under several prefixes", code="STATE_DICT", found=listed(marks), where=file)
    others = sorted(name for name, value in loaded.items() if name not in found and isinstance(value, Tensor))
    config = _config(loaded, file)
    rows = _Rows.of(config, 1 + max(tensors), file)
    lines = _lines(marks[0], len(tensors), others, bool(config), rows)
    banks = [_bank(index, tensors[index], config, rows, lines) for index in sorted(tensors)]
    return Array(_text(config.get("array_spec_name")), {bank.key: bank for bank in banks})


@dataclass(frozen=True)
class _Rows:
    """Rows of the config by battery, and the phases of each battery.

    Attributes:
        known: Rows by number of the battery; empty if it is not certain which bank each is of.
        phases: Names of the phases; empty if there is one, or if the banks are not of these.
        doubt: Reason why nothing is known although there are rows.
    """

    known: Mapping[int, dict[str, Any]]
    phases: tuple[str, ...]
    doubt: str | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any], banks: int, file: CheckpointFile) -> _Rows:
        """Read the rows of a config for banks up to a number."""
        rows = [_row(value, file) for value in _list(config, "batteries", file)]
        phases = tuple(unicode(name) for name in _list(config, "epoch_phase_names", file))
        count = config.get("n_batteries")
        batteries = count if type(count) is int else len(rows)
        known = _numbered(rows, batteries)
        if not rows or (known and batteries * max(1, len(phases)) == banks):
            whole = bool(phases) and banks % len(phases) == 0
            return cls(known, phases if whole else ())
        if any(foreign_config.tells_function(row) for row in rows):
            expected = "a row for each bank, since rows have settings of the function"
            raise _fault(expected, f"{len(rows)} rows for banks up to {banks - 1}", file)
        of_phases = f" of {len(phases)} phases" if phases else ""
        counts = f"{len(rows)} rows, {batteries} batteries{of_phases}, banks 0 to {banks - 1}"
        return cls({}, (), f"rows cannot be matched with banks ({counts})")


def _numbered(rows: list[dict[str, Any]], batteries: int) -> dict[int, dict[str, Any]]:
    """Return rows by the number of their battery, which each has, or which is its place in a full list; else none."""
    if not any("battery_id" in row for row in rows):
        return dict(enumerate(rows)) if len(rows) == batteries else {}
    ids = [one for row in rows if type(one := row.get("battery_id")) is int and 0 <= one < batteries]
    return dict(zip(ids, rows, strict=True)) if len({*ids}) == len(rows) else {}


def _bank(index: int, tensors: Mapping[str, Tensor], config: Mapping[str, Any], rows: _Rows, lines: tuple[str, ...]) -> Bank:
    key, count = f"banks.{index}", max(1, len(rows.phases))
    battery, phase = index // count, rows.phases[index % count] if rows.phases else None
    row = rows.known.get(battery, {})
    own = (*lines, f"bank {index}, battery {battery}" + (f" in phase {phase}" if phase else ""))
    if rows.known and not row:
        own = (*own, f"{CONFIG} has no row for battery {battery}: the weights may be those of an untrained cell")
    said = {"config": _settings(config) | row, **_claims(row, phase)}
    named = _text(row.get("phase")) or phase
    return Bank(key, battery, _title(row), named, {key: tensors, **said}, own)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of all banks: ``battery_kwargs``, else the config without its rows."""
    kwargs = config.get("battery_kwargs")
    if kwargs is None:
        return {name: value for name, value in config.items() if name != "batteries"}
    return {name: config[name] for name in OF_THE_IMAGES if name in config} | kwargs


def _claims(row: Mapping[str, Any], phase: str | None) -> dict[str, Any]:
    """Return epoch and error of a bank, which a row may have by phase."""

    def of_phase(table: str, name: str) -> Any:
        by_phase = row.get(table)
        return by_phase.get(phase) if isinstance(by_phase, dict) else row.get(name)

    return {
        "epoch": of_phase("epoch_phases", "epoch"),
        "test_mse": of_phase("per_phase_mse", "test_mse"),
        "val_mse": row.get("val_mse"),
    }


def _lines(mark: str, count: int, others: list[str], config: bool, rows: _Rows) -> tuple[str, ...]:
    prefix = mark.removesuffix("banks.")
    lines = [f"array of {count} banks" + (f", prefix {prefix} taken off" if prefix else "")]
    lines += [f"left unread beside the banks: {listed(others)}"] if others else []
    lines += [] if config else [f"no {CONFIG} beside it"]
    lines += [f"names and claims of {CONFIG} left out: {rows.doubt}"] if rows.doubt else []
    return tuple(lines)


def _config(loaded: Mapping[str, Any], file: CheckpointFile) -> dict[str, Any]:
    """Return the config of the file's header, else of the file beside it; empty if there is neither."""
    config = next((loaded[name] for name in foreign_config.CONFIGS if isinstance(loaded.get(name), dict)), None)
    if config is None:
        try:
            config = load_loose(file.beside(CONFIG), where=CONFIG, limit=MAX_BESIDE)
        except NotFoundError:
            return {}
        except FormatError as error:
            raise _fault("a table in JSON", error.found, file) from error
    if not isinstance(config, dict) or not isinstance(config.get("battery_kwargs", {}), dict | None):
        raise _fault("a table, with battery_kwargs a table", f"{config!r}"[:100], file)
    return config


def _list(config: Mapping[str, Any], name: str, file: CheckpointFile) -> list[Any]:
    value = config.get(name)
    if not isinstance(value, list | None):
        raise _fault(f"{name} a list", f"{value!r}"[:100], file)
    return value or []


def _row(value: Any, file: CheckpointFile) -> dict[str, Any]:
    """Return a row of the config as a table, with the data set under its usual name."""
    if value is None or isinstance(value, str):
        return {"name": value}
    if not isinstance(value, dict):
        raise _fault("rows of batteries as names or tables", f"{value!r}"[:100], file)
    dataset = dataset_of(value)
    return {**value, "dataset": dataset} if dataset else value


def _title(row: Mapping[str, Any]) -> str | None:
    return next((title for name in TITLES if (title := _text(row.get(name)))), None)


def _text(value: Any) -> str | None:
    """Return a text with letters or digits of names in it; None for anything else."""
    return unicode(value) if isinstance(value, str) and re.search("[A-Za-z0-9]", value) else None


def _fault(expected: str, found: object, file: CheckpointFile) -> FormatError:
    remedy = f"If {CONFIG} is not that of the array, remove it, and give what tensors cannot tell as options."
    return FormatError(f"invalid {CONFIG}", code="CONFIG", expected=expected, found=found, where=file, remedy=remedy)
