"""Documents kept in a folder under all that they depend on, so that an interrupted command resumes from them.

No digest can prove that a document is what was computed, so one that another user could have written is computed again.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batteries.errors import BatteriesError, StoreWarning
from batteries.io import atomic_files, canonical_json
from batteries.io.access import Access, is_trusted
from batteries.io.canonical_json import AnyDocument, load_document
from batteries.io.home import REMEDY

MAX_ENTRY = 2**20


@dataclass(frozen=True)
class KeptDocuments:
    """A folder of documents; a damaged or missing one is computed again.

    Attributes:
        folder: Folder of the documents; None to keep nothing.
        fresh: Compute every document again, in place of those that are kept.
    """

    folder: Path | None = None
    fresh: bool = False

    def recall(self, kind: type[AnyDocument], key: Mapping[str, Any], make: Callable[[], AnyDocument]) -> AnyDocument:
        """Return the document kept under a key, or else that of ``make``, which is kept.

        Args:
            kind: Type of the document.
            key: Everything that it depends on, as JSON values.
            make: Computes the document.
        """
        if self.folder is None:
            return make()
        path = self.folder / f"{canonical_json.sha256(canonical_json.dump({**key, 'kind': kind.__name__}))}.json"
        if not self.fresh and is_trusted(path):
            with contextlib.suppress(BatteriesError):
                return load_document(kind, atomic_files.read(path, limit=MAX_ENTRY), where=path, limit=MAX_ENTRY)
        found = make()
        try:
            atomic_files.replace(path, found.to_bytes(), access=Access(self.folder.parent, private=True))
        except BatteriesError:  # results that are not kept are better than none
            what = "finished parts are not kept and would be computed again"
            warnings.warn(StoreWarning(what, code="NO_CACHE", where=path.parent, remedy=REMEDY), stacklevel=1)
        return found
