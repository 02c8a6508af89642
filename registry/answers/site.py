"""Answer of site and browse under ``--json``; its schema is exported to ``docs/schema``."""

from __future__ import annotations

from pathlib import Path

from batteries.cell.manifest import Count
from batteries.text import unicode
from registry.answers.answer import Answer


class SiteAnswer(Answer):
    """Site of a registry in a folder.

    Attributes:
        folder: Folder of the site.
        front: Path of its front page.
        registry: Address of the registry.
        number: Number of the registry's index.
        pages: Number of files of the site.
        made: Number of those that were made, or made again.
        removed: Number of files that the registry no longer has.
    """

    folder: str
    front: str
    registry: str
    number: Count
    pages: Count
    made: Count
    removed: Count

    @classmethod
    def of(cls, *, folder: Path, front: Path, registry: str, number: int, pages: int, made: int, removed: int) -> SiteAnswer:
        """Return the answer for a site that was made."""
        return cls(
            folder=unicode(folder),
            front=unicode(front),
            registry=unicode(registry),
            number=number,
            pages=pages,
            made=made,
            removed=removed,
        )


SITES: dict[str, type[Answer]] = {"site": SiteAnswer, "browse": SiteAnswer}
