"""Answers of encode and reconstruct under ``--json``; their schemas are in ``docs/schema`` as well."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

from batteries.cell.manifest import Count, Positive
from batteries.text import unicode
from composer.encoding.record import EncodingRecord, Sides
from registry.answers.answer import Answer

if TYPE_CHECKING:
    from composer.encoding.encode import Encoded
    from composer.encoding.reconstruct import Reconstructed, ReconstructedImage


class EncodeAnswer(Answer):
    """Answer of ``batteries encode``.

    Attributes:
        path: Path of the file.
        size: Size of the file in bytes.
        reused: Number of images whose tokens an earlier run had made.
        record: Cells, settings and images, as in the file.
    """

    path: str
    size: Positive
    reused: Count
    record: EncodingRecord

    @classmethod
    def of(cls, encoded: Encoded) -> Self:
        """Return the answer of a run."""
        size = encoded.path.stat().st_size
        return cls(path=unicode(encoded.path), size=size, reused=encoded.reused, record=encoded.record)


class PictureRow(Answer):
    """An image and what the cells make of it.

    Attributes:
        name: Path of the image.
        size: Height and width before framing.
        framed: Height and width as the cells were given it.
        errors: Mean squared error by cell; None where it is not finite.
        files: Path of each picture by cell; empty where all are in one picture.
    """

    name: str
    size: Sides
    framed: Sides
    errors: dict[str, float | None]
    files: dict[str, str]

    @classmethod
    def of(cls, found: ReconstructedImage) -> Self:
        """Return the row of an image."""
        return cls(
            name=found.image.name,
            size=found.image.size,
            framed=found.image.framed,
            errors={name: error if math.isfinite(error) else None for name, error in found.errors.items()},
            files={name: unicode(path) for name, path in found.files.items()},
        )


class ReconstructAnswer(Answer):
    """Answer of ``batteries reconstruct``.

    Attributes:
        path: Folder of the pictures, or path of the one picture.
        reused: Number of images whose pictures an earlier run had made.
        images: Images, in order.
    """

    path: str
    reused: Count
    images: tuple[PictureRow, ...]

    @classmethod
    def of(cls, made: Reconstructed) -> Self:
        """Return the answer of a run."""
        return cls(path=unicode(made.path), reused=made.reused, images=tuple(map(PictureRow.of, made.images)))


ENCODING: dict[str, type[Answer]] = {"encode": EncodeAnswer, "reconstruct": ReconstructAnswer}
