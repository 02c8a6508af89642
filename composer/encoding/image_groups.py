"""Images in groups that a container runs at once: consecutive, of one size, and bounded in number and memory.

Legend: B images of a group, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from batteries.images.framing import Size
from batteries.images.image_reader import ReadImage
from batteries.io.canonical_json import sha256
from batteries.text import unicode
from composer.container.container import Container
from composer.encoding.record import EncodedImage

GROUP_BYTES = 64 * 2**20  # of images and of what is kept of them, for all images of a group


@dataclass(frozen=True, eq=False)
class ImageGroup:
    """Consecutive images of one size.

    Attributes:
        first: Place of the first image.
        names: Names as they were read.
        sizes: Height and width of each before framing.
        batch: (B, C, height, width) float32, on the CPU.
    """

    first: int
    names: tuple[str, ...]
    sizes: tuple[Size, ...]
    batch: Tensor

    @property
    def sides(self) -> Size:
        """Height and width."""
        return self.batch.shape[2], self.batch.shape[3]

    @property
    def images(self) -> tuple[EncodedImage, ...]:
        """Images as the record has them."""
        pairs = zip(self.names, self.sizes, strict=True)
        return tuple(EncodedImage(name=unicode(name), size=size, framed=self.sides) for name, size in pairs)

    def digests(self) -> list[str]:
        """SHA-256 of the values of every image."""
        return [sha256(memoryview(image.numpy()).cast("B")) for image in self.batch]


def in_groups(read: Iterable[ReadImage], most: Callable[[Size], int]) -> Iterator[ImageGroup]:
    """Put images into groups, in order.

    Args:
        read: Images.
        most: Number of images of a group, by their height and width.
    """
    first, group = 0, list[ReadImage]()
    for one in read:
        if group and one.image.shape != group[0].image.shape:
            yield _group(first, group)
            first, group = first + len(group), []
        group.append(one)
        if len(group) >= most((one.image.shape[1], one.image.shape[2])):
            yield _group(first, group)
            first, group = first + len(group), []
    if group:
        yield _group(first, group)


def group_size(container: Container, batch: int, numbers: Callable[[Size], int]) -> Callable[[Size], int]:
    """Return the number of images of a group by their sides: at most ``batch``, and fewer where memory would not hold them.

    Cells whose rows are scaled by the norm of a whole batch are given one image at a time: else an image's tokens would depend
    on its neighbours.

    Args:
        container: The cells.
        batch: Largest number of images.
        numbers: Numbers that are kept of one image of such sides, besides the image.
    """
    if any(group.spec.row_norm == "scale" for group, _ in container.members()):
        batch = 1
    channels = container.groups[0].spec.channels

    def most(sides: Size) -> int:
        image = 4 * (channels * math.prod(sides) + numbers(sides))
        return max(1, min(batch, GROUP_BYTES // image))

    return most


def _group(first: int, read: list[ReadImage]) -> ImageGroup:
    names, sizes = tuple(one.name for one in read), tuple(one.size for one in read)
    return ImageGroup(first, names, sizes, torch.stack([one.image for one in read]))
