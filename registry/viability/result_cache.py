"""Cache on disk of finished parts of viability tests, for other cells of a spec and for tests that were stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from batteries import __version__
from batteries.io.canonical_json import AnyDocument
from batteries.kept_documents import KeptDocuments
from registry.viability import shipped_results


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
        whole = {**key, "package": __version__, "torch": torch.__version__}
        shipped = None if self.fresh else shipped_results.find(kind, key)
        return shipped or KeptDocuments(self.folder, self.fresh).recall(kind, whole, make)
