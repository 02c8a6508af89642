"""Three cells for hosts."""

import pytest

from tests.support.cells import from_model
from tests.support.hosts import SPEC


@pytest.fixture(scope="module")
def cells():
    return [from_model(SPEC, seed, name) for seed, name in enumerate("abc")]
