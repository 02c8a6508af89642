"""Encoding: cells run over images, group after group, and their tokens written as one file.

A group's tokens go to a part on the disk as soon as they are there; the file is put together from the parts. A run that is
stopped leaves its parts beside the file, and the same call goes on from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from batteries import __version__, short_repr
from batteries.engine.task_runner import Run
from batteries.engine.tasks import Task
from batteries.engine.torch_settings import neutral
from batteries.images.framing import Fit, Size, checked_size
from batteries.images.image_arrays import Layout, Scale
from batteries.images.image_reader import ReadImage, form_of, stream
from composer.container.container import Container
from composer.encoding import array_files, parquet_file
from composer.encoding.arguments import TOKEN_FILES, checked_batch, checked_tokens, token_file
from composer.encoding.cells import Cells, container_of, recipe
from composer.encoding.group_tasks import PackedContainer, arrays, group_tokens
from composer.encoding.image_groups import ImageGroup, group_size, in_groups
from composer.encoding.part_folder import PartFolder
from composer.encoding.record import EncodedCell, EncodingRecord, Token
from composer.encoding.token_layout import Piece, layout_of, numbers_of

FORMATS = dict(zip(TOKEN_FILES, (array_files.safetensors, array_files.npz, parquet_file.parquet), strict=True))
BATCH = 16  # images of a group

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Encoded:
    """A file of tokens that was written.

    Attributes:
        path: Path of the file.
        record: Cells, settings and images; the file holds it, too.
        reused: Number of images whose tokens an earlier run had made.

    >>> import batteries, composer, registry
    >>> images = batteries.probe("photos-64").images[:2]
    >>> encoded = composer.encode(registry.load("low/fresnel-64"), images, "tokens.npz", scale="signed")
    >>> len(encoded.record.images), encoded.reused
    (2, 0)
    """

    path: Path
    record: EncodingRecord
    reused: int

    def __repr__(self) -> str:
        record = self.record
        counts = short_repr.counted(len(record.cells), "cell"), short_repr.counted(len(record.images), "image")
        return short_repr.headed(self, str(self.path), *counts)


@neutral()
@torch.no_grad()
def encode(
    cells: Cells,
    source: Any,
    out: str | Path,
    *,
    tokens: Token | Sequence[Token] = ("omega",),
    scale: Scale | None = None,
    fit: Fit | None = None,
    size: int | Size | None = None,
    layout: Layout | None = None,
    batch: int = BATCH,
    fresh: bool = False,
    progress: Progress = lambda done: None,
    run: Run | None = None,
) -> Encoded:
    """Run cells over images, and write their tokens to one file: ``.safetensors``, ``.npz`` or ``.parquet``.

    Memory holds one group of images at a time, however many there are. Finished groups are kept in a hidden folder beside the
    file, ``.NAME.parts``; a call that is stopped and made again runs the cells only for the rest. Parts are known by the
    images' values, the cells and the tokens: where one of them changed, its part is made anew. The file is the same, to the
    bit, as that of one call. A file that is there stays until the new one is whole, and is then replaced.

    Tokens are in each cell's own coordinates. The numbers are those of ``container(images)``. The layout of each format:
    :mod:`composer.encoding.array_files`, :mod:`composer.encoding.parquet_file`.

    Args:
        cells: Cells one by one, in a list or by name; a container; or a composition, whose cells are run.
        source: Images, as for :func:`batteries.images.load`; they may differ in size.
        out: File to write.
        tokens: Some of omega, S and M.
        scale: Scale of values that are no bytes, as for :func:`batteries.images.load`.
        fit: Framing: ``crop``, ``pad`` or ``resize``, as for :func:`batteries.images.load`.
        size: Side, or height and width, of all images; left out, each keeps its own up to the patch.
        layout: Axes of arrays, as for :func:`batteries.images.load`.
        batch: Most images to run at once; large ones are fewer.
        fresh: True to begin anew, without the parts of a call that was stopped.
        progress: Called with the number of finished images, after each group.
        run: Function that runs tasks and yields their outcomes, such as :func:`batteries.engine.task_runner.run`: a task for
            each group; memory then holds one group for each worker. Left out, the groups are run here, one after the other.

    Raises:
        InputError: an unknown format (``SUFFIX``) or token (``TOKENS``), a folder in the file's place (``FOLDER``), an extra
            that is not installed (``EXTRA``), or images that cannot be read or framed, as :func:`batteries.images.load`; where
            one of many cannot be, the finished groups are kept.
        NotFoundError: no image (``NO_IMAGES``, ``NO_FILE``).
        StoreError: another call that writes the same file (``LOCK_TIMEOUT``), no space, no permission, a failing disk.
        BatteriesError: cells that do not go together, as :func:`composer.compose`.

    >>> import batteries, composer, numpy, registry
    >>> images = batteries.probe("photos-64").images[:2]
    >>> composer.encode(registry.load("low/fresnel-64"), images, "tokens.npz", scale="signed")
    Encoded(tokens.npz, 1 cell, 2 images)
    >>> numpy.load("tokens.npz")["low/fresnel-64/omega"].shape
    (32, 16)
    """
    path, wanted, batch = token_file(out), checked_tokens(tokens), checked_batch(batch)
    container = container_of(cells)
    read = stream(source, cell=container, scale=scale, fit=fit, size=size, layout=layout)
    made = _Groups(container, wanted, PartFolder(path, recipe(container, container.names, tokens=wanted)))
    with made.parts.held(fresh):
        pieces = made.pieces(read, batch, progress) if run is None else made.pieces_of_tasks(read, batch, progress, run)
        record = _record(container, wanted, fit, checked_size(size, form_of(container).patch), pieces)
        made.parts.finish(FORMATS[path.suffix](record, pieces, made.read))
    return Encoded(path, record, made.reused)


class _Groups:
    """Groups run through a container, each to its part.

    Attributes:
        parts: Folder of the parts.
        reused: Images whose part was there already.
    """

    def __init__(self, container: Container, tokens: tuple[Token, ...], parts: PartFolder) -> None:
        self.parts = parts
        self.reused = 0
        self._container = container
        self._tokens = tokens

    def pieces(self, read: Iterable[ReadImage], batch: int, progress: Progress) -> list[Piece]:
        """Run every group here, and return their pieces."""
        pieces = []
        for group, piece in self._drawn(read, batch):
            if self.parts.holds(piece.key, piece.size):
                self.reused += len(piece.images)
            else:
                self.parts.write(piece.key, arrays(self._container, group.batch, self._tokens))
            pieces.append(piece)
            progress(piece.first + len(piece.images))
        return pieces

    def pieces_of_tasks(self, read: Iterable[ReadImage], batch: int, progress: Progress, run: Run) -> list[Piece]:
        """Run every group as a task, write its part when it is done, and return the pieces in order."""
        pieces: list[Piece] = []
        under_way: dict[str, Piece] = {}
        packed = PackedContainer.of(self._container)
        done = 0

        def tasks() -> Iterator[Task]:
            nonlocal done
            for group, piece in self._drawn(read, batch):
                pieces.append(piece)
                if piece.key in under_way or self.parts.holds(piece.key, piece.size):
                    self.reused += len(piece.images)
                    done += len(piece.images)
                else:
                    under_way[piece.key] = piece
                    yield Task(piece.key, group_tokens, (packed, self._tokens, group.batch.numpy()))

        for outcome in run(tasks()):
            self.parts.write(outcome.task.name, [memoryview(outcome.result())])
            done += len(under_way[outcome.task.name].images)
            progress(done)
        return pieces

    def read(self, piece: Piece) -> memoryview:
        """Return the bytes of a part."""
        return self.parts.read(piece.key, piece.size)

    def _drawn(self, read: Iterable[ReadImage], batch: int) -> Iterator[tuple[ImageGroup, Piece]]:
        most = group_size(self._container, batch, lambda sides: numbers_of(layout_of(self._container, self._tokens, sides)))
        for group in in_groups(read, most):
            layout = layout_of(self._container, self._tokens, group.sides)
            yield group, Piece(self.parts.key(group.digests()), group.first, group.images, layout)


def _record(
    container: Container, tokens: tuple[Token, ...], fit: Fit | None, size: Size | None, pieces: Sequence[Piece]
) -> EncodingRecord:
    rows = dict.fromkeys(container.names, 0)
    for piece in pieces:
        for name in rows:
            height, width = piece.grid(name)
            rows[name] += len(piece.images) * height * width
    specs = {name: container.spec(name) for name in container.names}
    return EncodingRecord(
        package=__version__,
        torch=str(torch.__version__),
        tokens=tokens,
        input=container.scale,
        fit=fit,
        size=size,
        cells=tuple(
            EncodedCell(name=name, **container.lock[name], V=spec.V, D=spec.D, patch_size=spec.patch_size, rows=rows[name])
            for name, spec in specs.items()
        ),
        images=tuple(image for piece in pieces for image in piece.images),
    )
