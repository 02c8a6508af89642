"""Small cells of unlike specs, and small images of unlike sizes, for tests of encoding."""

import json

import numpy as np
from safetensors.numpy import load_file

from batteries import CellSpec
from composer import compose
from tests.support.cells import from_model

COARSE = CellSpec(V=16, D=8, patch_size=8, hidden=16)
FINE = CellSpec(V=12, D=4, patch_size=4, hidden=8)
SIZES = ((16, 24), (16, 24), (32, 16), (16, 24), (16, 16), (16, 16), (16, 16))


def cells():
    return [
        from_model(COARSE, 0, "coarse", band="mid"),
        from_model(FINE, 1, "fine"),
        from_model(COARSE, 2, "other", band="mid"),
    ]


def container():
    return compose(cells())


def pictures(sizes=SIZES, seed=0):
    """Arrays of bytes, channels last."""
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def arrays(path):
    """Arrays and record of a file in either format of arrays."""
    if path.suffix == ".npz":
        with np.load(path) as file:
            found = dict(file)
    else:
        found = load_file(path)
    return found, json.loads(bytes(found.pop("metadata")))
