"""Maps of five cells into a frame, their file, and the bytes of one small map."""

import pytest

from composer import save
from tests.support.maps import consensus, container, direct


@pytest.fixture(scope="module")
def of():
    return container()


@pytest.fixture(scope="module")
def found(of):
    return consensus(of)


@pytest.fixture(scope="module")
def path(found, of, tmp_path_factory):
    path = tmp_path_factory.mktemp("maps") / "small.safetensors"
    save(found, path, lock=of.lock)
    return path


@pytest.fixture(scope="module")
def little(of, tmp_path_factory):
    """The bytes of one map between narrow cells."""
    path = tmp_path_factory.mktemp("maps") / "little.safetensors"
    save(direct(of, "noise", "low"), path, lock=of.lock)
    return path.read_bytes()
