"""Report of a public trainer beside a checkpoint, ``final_report.json``: trajectory and data, as claims."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from batteries.cell.manifest import MAX_TRAJECTORY, Claimed, ClaimedPoint
from batteries.errors import BatteriesError, NotFoundError
from batteries.io.texts.hostile_json import load_loose
from batteries.packaging.checkpoint_places import MAX_BESIDE, CheckpointFile
from batteries.text import unicode

REPORT = "final_report.json"
POINTS = "per_epoch_metrics"
LONGEST = 200  # characters of the data set's name


def with_report(claimed: Claimed | None, file: CheckpointFile) -> tuple[Claimed | None, list[str]]:
    """Add the claims of the report beside a checkpoint to those of its file, which win; return them with a line about it.

    Args:
        claimed: Claims of the file itself, or None.
        file: Checkpoint.
    """
    try:
        report = load_loose(file.beside(REPORT), where=REPORT, limit=MAX_BESIDE)
    except NotFoundError:
        return claimed, []
    except BatteriesError as error:
        return claimed, [f"{REPORT} left unread: {error.what}"]
    if not isinstance(report, dict):
        return claimed, [f"{REPORT} left unread: not a table"]
    own = claimed or Claimed()
    found = Claimed(
        epoch=own.epoch,
        test_mse=own.test_mse,
        dataset=own.dataset or dataset_of(report),
        rate=own.rate,
        trajectory=_trajectory(report.get(POINTS)),
    )
    return (None if found == Claimed() else found), [f"claims of {REPORT} beside it"]


def dataset_of(report: Mapping[str, Any]) -> str | None:
    """Return the data set that a report names, or its noise types."""
    config = report.get("config")
    for table in (report, config if isinstance(config, dict) else {}):
        if isinstance(table.get("dataset"), str):
            return unicode(table["dataset"])[:LONGEST]
        for name in ("noise_names", "noise_types"):
            if isinstance(table.get(name), list) and table[name]:
                return unicode(f"{name} {', '.join(map(str, table[name]))}")[:LONGEST]
    return None


def _trajectory(rows: Any) -> tuple[ClaimedPoint, ...]:
    """Return the readings of epochs, thinned evenly to the number that a manifest holds, the last among them."""
    rows = rows if isinstance(rows, list) else []
    usable = [row for row in rows if isinstance(row, dict) and count_in(row.get("epoch")) is not None]
    every = max(1, -(-len(usable) // (MAX_TRAJECTORY - 1)))
    kept = [row for number, row in enumerate(usable) if number % every == 0 or number == len(usable) - 1]
    return tuple(_point(row) for row in kept)


def _point(row: Mapping[str, Any]) -> ClaimedPoint:
    return ClaimedPoint(epoch=row["epoch"], test_mse=number_in(row.get("test_mse")), cv=number_in(row.get("cv_ema")))


def count_in(value: Any) -> int | None:
    """Return a claimed count, if it is one that a manifest can hold."""
    return value if type(value) is int and 0 <= value < 2**53 else None


def number_in(value: Any) -> float | None:
    """Return a claimed number, if it is a finite one."""
    return float(value) if type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value) else None
