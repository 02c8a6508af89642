"""Cache on disk of finished parts of viability tests, for other cells of a spec and for tests that were stopped."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from batteries import __version__
from batteries.errors import BatteriesError, StoreWarning
from batteries.io import atomic_files, canonical_json
from batteries.io.canonical_json import AnyDocument, load_document
from registry.stores.cache import REMEDY
from registry.viability import shipped_results

MAX_ENTRY = 2**20


@dataclass(frozen=True)
class ResultCache:
    """A folder of results, keyed by all that they depend on; a damaged or missing result is computed again.

    Attributes:
        folder: Folder of the results; None to keep nothing.
        fresh: Compute every result again, in place of those that are kept or ship with the package.
    """

    folder: Path | None = None
    fresh: bool = False

    def recall(self, kind: type[AnyDocument], key: Mapping[str, Any], make: Callable[[], AnyDocument]) -> AnyDocument:
        """Return the result that ships or is kept under a key, or else that of ``make``.

        Args:
            kind: Type of the result.
            key: Everything that the result depends on, as JSON values.
            make: Computes the result.
        """
        path = self._path(kind, key)
        if not self.fresh and (kept := shipped_results.find(kind, key) or self._kept(kind, path)):
            return kept
        found = make()
        if path:
            try:
                atomic_files.replace(path, found.to_bytes())
            except BatteriesError:  # a test without a cache is better than none
                what = "finished parts of the test are not kept and would be computed again"
                warnings.warn(StoreWarning(what, code="NO_CACHE", where=path.parent, remedy=REMEDY), stacklevel=1)
        return found

    def _kept(self, kind: type[AnyDocument], path: Path | None) -> AnyDocument | None:
        if path:
            with contextlib.suppress(BatteriesError):
                return load_document(kind, atomic_files.read(path, limit=MAX_ENTRY), where=path, limit=MAX_ENTRY)
        return None

    def _path(self, kind: type[AnyDocument], key: Mapping[str, Any]) -> Path | None:
        if self.folder is None:
            return None
        whole = {**key, "kind": kind.__name__, "package": __version__, "torch": torch.__version__}
        return self.folder / f"{canonical_json.sha256(canonical_json.dump(whole))}.json"
