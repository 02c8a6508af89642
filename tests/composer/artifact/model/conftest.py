"""A small model, its file, and the bytes of the smallest one."""

import pytest

from composer import save
from tests.support.models import (
    least,
    model,
)


@pytest.fixture(scope="module")
def made():
    return model()


@pytest.fixture(scope="module")
def path(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "small.safetensors"
    save(made, path)
    return path


@pytest.fixture(scope="module")
def little(tmp_path_factory):
    """The bytes of a model of one cell."""
    path = tmp_path_factory.mktemp("models") / "least.safetensors"
    save(least(), path)
    return path.read_bytes()
