"""A signed registry with three changes, in a folder or on the local Hub."""

import pytest

from tests.support.signing import fill, made


@pytest.fixture
def place(request, tmp_path):
    found = made(request, tmp_path)
    fill(found, "A")
    return found
