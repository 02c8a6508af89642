"""Registries of a cell, and of two versions of an artifact and another one of every kind beside it."""

import pytest

from tests.support.cells import publish, tiny
from tests.support.packed_kinds import KINDS, packed_kind


@pytest.fixture(params=KINDS)
def kind(request):
    """Every kind in turn."""
    return packed_kind(request.param)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The files of all of them."""
    folder = tmp_path_factory.mktemp("packed")
    for name in KINDS:
        packed_kind(name).files(folder)
    return folder


@pytest.fixture
def folder(files, tmp_path):
    """A registry of one cell and of all of them."""
    folder = tmp_path / "registry"
    publish(tiny(), folder)
    for path in sorted(files.glob("*.safetensors")):
        publish(path, folder)
    return folder
