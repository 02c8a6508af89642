"""Finished parts of viability tests, kept on disk: what several cells share, and what a stopped test need not do again."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from batteries.errors import BatteriesError, StoreWarning
from batteries.io import atomic_files, canonical_json
from batteries.io.canonical_json import AnyDocument, load_document
from registry.stores.cache import REMEDY

MAX_ENTRY = 2**20


@dataclass(frozen=True)
class ResultCache:
    """A folder of results by what they depend on; a result that is damaged or missing is made again.

    Attributes:
        folder: Where; nothing is kept where left out.
    """

    folder: Path | None = None

    def recall(self, kind: type[AnyDocument], key: Mapping[str, Any], make: Callable[[], AnyDocument]) -> AnyDocument:
        """Result of ``make``, or the one kept under the same key, package and torch.

        Args:
            kind: Of the result.
            key: Everything it depends on; JSON values.
            make: Makes it.
        """
        path = self._path(kind, key)
        if path:
            with contextlib.suppress(BatteriesError):
                return load_document(kind, atomic_files.read(path, limit=MAX_ENTRY), where=path, limit=MAX_ENTRY)
        found = make()
        if path:
            try:
                atomic_files.replace(path, found.to_bytes())
            except BatteriesError:  # a test that goes on is worth more than one that could be stopped
                what = "finished parts of the test are not kept, and will be done again"
                warnings.warn(StoreWarning(what, code="NO_CACHE", where=path.parent, remedy=REMEDY), stacklevel=1)
        return found

    def _path(self, kind: type[AnyDocument], key: Mapping[str, Any]) -> Path | None:
        if self.folder is None:
            return None
        whole = {**key, "kind": kind.__name__, "package": version("svae-batteries"), "torch": torch.__version__}
        return self.folder / f"{canonical_json.sha256(canonical_json.dump(whole))}.json"
