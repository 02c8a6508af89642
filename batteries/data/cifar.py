"""CIFAR-10 from a user's folder, in its binary format; its pickled formats are never read.

A record of the binary format is a byte with the class, 0 to 9, and 3 x 32 x 32 bytes, channel by channel and row by row
(https://www.cs.toronto.edu/~kriz/cifar.html).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from batteries.data.photos import to_float
from batteries.errors import FormatError, NotFoundError
from batteries.io import atomic_files

TRAINING = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"
SIDE = 32
CLASSES = 10
RECORD = 1 + 3 * SIDE * SIDE
MAX_FILE = 2**26  # bytes; those of the data set have 30,730,000
REMEDY = "Unpack the binary version, cifar-10-binary.tar.gz, and name its folder cifar-10-batches-bin."


def read_cifar(folder: str | Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Read the training and test parts of CIFAR-10.

    Args:
        folder: Folder with ``test_batch.bin`` and one or more of ``data_batch_1.bin`` to ``data_batch_5.bin``.

    Returns:
        Images (n, 3, 32, 32) in [-1, 1] with their classes (n,), for training and for the test.

    Raises:
        NotFoundError: missing folder or files (``NO_CIFAR``).
        FormatError: the pickled version (``CIFAR_PICKLE``); a file that is no whole number of records, or a class above 9
            (``CIFAR``); too large (``TOO_LARGE``).
        StoreError: failing disk, no permission.
        InputError: invalid path.

    >>> from pathlib import Path
    >>> for name in ("data_batch_1.bin", "test_batch.bin"):
    ...     _ = Path(name).write_bytes(bytes([7]) + bytes(3072))
    >>> (images, classes), _ = read_cifar(".")
    >>> images.shape, classes
    (torch.Size([1, 3, 32, 32]), tensor([7]))
    """
    place = Path(folder)
    with atomic_files.typed(place):
        present = [place / name for name in TRAINING if (place / name).is_file()]
        complete = bool(present) and (place / TEST).is_file()
        pickled = any((place / name).with_suffix("").is_file() for name in (*TRAINING, TEST))
    if not complete:
        if pickled:
            raise FormatError("pickled version of CIFAR-10", code="CIFAR_PICKLE", where=place, remedy=REMEDY)
        expected = f"{TRAINING[0]} and {TEST}"
        raise NotFoundError("missing files of CIFAR-10", code="NO_CIFAR", expected=expected, where=place, remedy=REMEDY)
    parts = [_read(path) for path in present]
    return (torch.cat([images for images, _ in parts]), torch.cat([classes for _, classes in parts])), _read(place / TEST)


def _read(path: Path) -> tuple[Tensor, Tensor]:
    data = atomic_files.read(path, limit=MAX_FILE, links=True)
    if not data or len(data) % RECORD:
        expected = f"a whole number of records of {RECORD} bytes"
        raise FormatError("malformed file of CIFAR-10", code="CIFAR", expected=expected, found=f"{len(data)} bytes", where=path)
    records = torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy()).view(-1, RECORD)
    classes = records[:, 0].long()
    if int(classes.max()) >= CLASSES:
        raise FormatError(
            "malformed file of CIFAR-10", code="CIFAR", expected="classes 0 to 9", found=int(classes.max()), where=path
        )
    return to_float(records[:, 1:].view(-1, 3, SIDE, SIDE)), classes
