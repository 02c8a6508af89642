"""Tasks of the study of credit rules: images with classes, or what a container of cells makes of them.

Classes take turns in every part, so that a batch of consecutive samples has all of them in equal number.

No digits ship with a dependency of this package. The digits here are printed: those of the font that Pillow carries, in random
size, place and angle, under noise. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

from batteries import short_repr
from batteries.data.cifar import read_cifar
from batteries.data.photos import to_float, to_tensor
from batteries.data.probes import photographs
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from batteries.images.decoding import read_image
from batteries.images.image_batch import unjudged
from batteries.noise import NAMES, of_types
from composer.container.container import Container
from composer.container.outputs import CellOutput

SIDE = 16  # pixels of an image of the tasks that are made here
PER_CLASS = (400, 100)  # training and test images of a class: the reference task has 6,400 and 1,600
DIGIT_SIZES = (10, 16)  # of the font, in pixels
DIGIT_ANGLE = 20.0  # largest turn, in degrees
DIGIT_NOISE = 0.3  # sigma
AT_ONCE = 256  # images given to a container
FLOOR = 1e-6  # least deviation by which a feature is divided, and least error whose logarithm is taken

CellInput = Literal["omega", "M", "signature"]
Part = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class CreditTask:
    """Images with classes, in two disjoint parts.

    Attributes:
        name: Name of the task.
        train: Training images (n, channels, height, width) and classes (n,).
        test: Test images and classes.
        classes: Number of classes.

    Raises:
        InputError: images without a class each, or a class that cannot be (``TASK_IMAGES``).

    >>> from composer import credit
    >>> task = credit.noise_task(per_class=(2, 1))
    >>> task.classes, task.chance, task.flat().train[0].shape
    (16, 0.0625, torch.Size([32, 768]))
    """

    name: str
    train: Part
    test: Part
    classes: int

    __repr__ = short_repr.fields

    def __post_init__(self) -> None:
        for where, (images, classes) in (("train", self.train), ("test", self.test)):
            if (
                not len(images)
                or len(images) != len(classes)
                or not 0 <= int(classes.min()) <= int(classes.max()) < self.classes
            ):
                found = f"{tuple(images.shape)} and {tuple(classes.shape)}"
                raise InputError(
                    "images and classes do not match", code="TASK_IMAGES", found=found, where=f"{self.name}: {where}"
                )

    @property
    def chance(self) -> float:
        """Accuracy of guessing among classes of equal number."""
        return 1 / self.classes

    def flat(self) -> CreditTask:
        """Return the task with images as vectors (n, F), for an MLP."""
        train, test = ((images.flatten(1), classes) for images, classes in (self.train, self.test))
        return CreditTask(self.name, train, test, self.classes)


@neutral()
def noise_task(per_class: tuple[int, int] = PER_CLASS, seed: int = 0) -> CreditTask:
    """Name the 16 noise types of 16x16 images: the reference task.

    Args:
        per_class: Training and test images of a type.
        seed: Seed of the images.

    Raises:
        InputError: no image of a class in a part (``TASK_IMAGES``).

    >>> from composer import credit
    >>> credit.noise_task(per_class=(2, 1)).test[0].shape
    torch.Size([16, 3, 16, 16])
    """
    parts = []
    for part, count in enumerate(_counts(per_class)):
        types = torch.arange(len(NAMES)).repeat(count)
        generator = Generator().manual_seed(2 * seed + part)
        parts.append((of_types(types, (SIDE, SIDE), generator), types))
    return CreditTask("noise", parts[0], parts[1], len(NAMES))


@neutral()
def photograph_task(per_class: tuple[int, int] = PER_CLASS, seed: int = 0) -> CreditTask:
    """Name the photograph of a 16x16 crop; test crops are of the right third of each, which training crops do not touch.

    Args:
        per_class: Training and test crops of a photograph.
        seed: Seed of the crops.

    Raises:
        InputError: no image of a class in a part (``TASK_IMAGES``).

    >>> from composer import credit
    >>> credit.photograph_task(per_class=(2, 1)).test[0].shape
    torch.Size([16, 3, 16, 16])
    """
    rng = np.random.default_rng(seed)
    pictures = [to_tensor(read_image(path)) for path in photographs()]
    parts = []
    for part, count in enumerate(_counts(per_class)):
        crops = [_crop(rng, picture, part) for _ in range(count) for picture in pictures]
        parts.append((to_float(torch.stack(crops)), torch.arange(len(pictures)).repeat(count)))
    return CreditTask("photographs", parts[0], parts[1], len(pictures))


@neutral()
def digit_task(per_class: tuple[int, int] = PER_CLASS, seed: int = 0) -> CreditTask:
    """Name printed digits in 16x16 images of three equal channels.

    Args:
        per_class: Training and test images of a digit.
        seed: Seed of the images.

    Raises:
        InputError: no image of a class in a part (``TASK_IMAGES``).

    >>> from composer import credit
    >>> credit.digit_task(per_class=(2, 1)).test[0].shape
    torch.Size([10, 3, 16, 16])
    """
    rng = np.random.default_rng(seed)
    parts = []
    for count in _counts(per_class):
        drawn = np.stack([_digit(rng, digit) for _ in range(count) for digit in range(10)])
        images = torch.from_numpy(drawn).float()[:, None].expand(-1, 3, -1, -1).contiguous()
        parts.append((images, torch.arange(10).repeat(count)))
    return CreditTask("digits", parts[0], parts[1], 10)


def cifar_task(folder: str | Path) -> CreditTask:
    """Name the class of CIFAR-10's images, from a folder in the binary format.

    Args:
        folder: Folder, see :func:`batteries.data.cifar.read_cifar`, which raises for a missing or malformed one.

    >>> from pathlib import Path
    >>> from composer import credit
    >>> for name in ("data_batch_1.bin", "test_batch.bin"):
    ...     _ = Path(name).write_bytes(bytes([7]) + bytes(3072))
    >>> credit.cifar_task(".").train[0].shape
    torch.Size([1, 3, 32, 32])
    """
    return CreditTask("cifar", *read_cifar(folder), 10)


@neutral()
def through_cells(task: CreditTask, model: Container, reads: CellInput) -> CreditTask:
    """Put the cells of a container before a task: its images become maps of what the cells read in each patch.

    Every channel is standardised over the training part. The cells must share a grid.

    Args:
        task: Task whose images the cells accept.
        model: Container.
        reads: ``omega``; ``M``, the rows of each patch's matrix; ``signature``, the logarithm of each patch's error.

    Returns:
        Task with images (n, F, rows, columns) of F features of all cells.

    Raises:
        InputError: unknown features (``READS``), cells of several grids (``GRIDS``), images that the cells do not accept.

    >>> import batteries, composer, registry
    >>> from composer import credit
    >>> model = composer.compose(registry.load("high/johanna-64"))
    >>> credit.through_cells(credit.noise_task(per_class=(2, 1)), model, "omega").train[0].shape
    torch.Size([32, 4, 4, 4])
    """
    if reads not in get_args(CellInput):
        raise InputError("unknown features", code="READS", expected=" | ".join(get_args(CellInput)), found=repr(reads))
    made = [torch.cat([_read(model, images, reads) for images in part[0].split(AT_ONCE)]) for part in (task.train, task.test)]
    deviation, mean = torch.std_mean(made[0], dim=(0, 2, 3), keepdim=True)
    train, test = ((features - mean) / deviation.clamp_min(FLOOR) for features in made)
    return CreditTask(f"{task.name}, {reads}", (train, task.train[1]), (test, task.test[1]), task.classes)


@torch.no_grad()
def _read(model: Container, images: Tensor, reads: CellInput) -> Tensor:
    with unjudged():
        out = model(images, taps=("recon" if reads == "signature" else reads,))
    grids = {cell.grid for cell in out.values()}
    if len(grids) > 1:
        raise InputError("cells of several grids", code="GRIDS", expected="one", found=sorted(grids))
    (grid,) = grids
    features = torch.cat([_features(cell, reads) for cell in out.values()], dim=2)  # (B, N, F)
    return rearrange(features, "B (gh gw) F -> B F gh gw", gh=grid[0], gw=grid[1])


def _features(cell: CellOutput, reads: CellInput) -> Tensor:
    match reads:
        case "omega":
            return cell.omega
        case "M":
            return cell.M.flatten(2)
        case "signature":
            return cell.patch_error[..., None].clamp_min(FLOOR).log()


def _counts(per_class: tuple[int, int]) -> tuple[int, int]:
    if len(per_class) != 2 or min(per_class) < 1:
        expected = "an image of a class or more, for training and for the test"
        raise InputError("too few images", code="TASK_IMAGES", expected=expected, found=per_class)
    return per_class


def _crop(rng: np.random.Generator, picture: Tensor, part: int) -> Tensor:
    border = 2 * picture.shape[2] // 3
    own = picture[:, :, border:] if part else picture[:, :, :border]
    top, left = (int(rng.integers(size - SIDE + 1)) for size in own.shape[1:])
    return own[:, top : top + SIDE, left : left + SIDE]


def _digit(rng: np.random.Generator, digit: int) -> np.ndarray:
    """Draw a digit as values in about [-1, 1], (16, 16)."""
    picture = Image.new("L", (SIDE, SIDE))
    font = ImageFont.load_default(size=float(rng.uniform(*DIGIT_SIZES)))
    place = tuple(SIDE / 2 + rng.uniform(-2, 2, size=2))
    ImageDraw.Draw(picture).text(place, str(digit), fill=255, font=font, anchor="mm")
    turned = picture.rotate(float(rng.uniform(-DIGIT_ANGLE, DIGIT_ANGLE)), resample=Image.Resampling.BILINEAR)
    return np.asarray(turned, dtype=np.float64) / 127.5 - 1 + DIGIT_NOISE * rng.standard_normal((SIDE, SIDE))
