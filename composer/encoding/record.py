"""The document in a file of tokens: the cells, the settings and the images that they were made from. No torch here."""

from __future__ import annotations

from typing import ClassVar, Literal

from batteries.cell.manifest import Count, InputScale, Positive, Sha256
from batteries.io.canonical_json import Document

RECORD = "svae-batteries"  # key of the document in the metadata of a Parquet file

Token = Literal["omega", "S", "M"]
Sides = tuple[Positive, Positive]  # height and width in pixels


class EncodedCell(Document):
    """A cell that was run.

    Attributes:
        name: Name in the file.
        cell: Name in the registry, ``band/name``.
        version: Exact version.
        sha256: Digest of the weights' file.
        tensors: Digest of the weights.
        V: Rows of a patch's matrix.
        D: Width.
        patch_size: Side of a patch in pixels.
        rows: Number of patches over all images.
    """

    name: str
    cell: str
    version: str
    sha256: Sha256
    tensors: Sha256
    V: Positive
    D: Positive
    patch_size: Positive
    rows: Count


class EncodedImage(Document):
    """An image that was read.

    Attributes:
        name: Path of the file, or place in the source, such as ``images[3]``.
        size: Height and width before framing.
        framed: Height and width as the cells were given it.
    """

    name: str
    size: Sides
    framed: Sides


class EncodingRecord(Document):
    """The origin of tokens.

    Attributes:
        schema_version: Version of this form.
        package: Version of this package.
        torch: Version of torch.
        tokens: Tokens in the file.
        input: Input scale of the cells, on which the images were given to them.
        fit: Method of framing; None where sides were left as they are.
        size: Height and width that were asked for; None where images keep their own.
        cells: Cells, in order.
        images: Images, in order; a row's ``image`` is the place in this list.
    """

    SCHEMA_VERSION: ClassVar[str] = "1.0"

    schema_version: Literal["1.0"] = "1.0"
    package: str
    torch: str
    tokens: tuple[Token, ...]
    input: InputScale
    fit: Literal["crop", "pad", "resize"] | None
    size: Sides | None
    cells: tuple[EncodedCell, ...]
    images: tuple[EncodedImage, ...]
