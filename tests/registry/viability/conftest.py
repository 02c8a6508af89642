"""Figures of few images, and the report of one short test."""

import pytest

from registry import validate
from tests.support.cells import from_model
from tests.support.viability import SPEC, TEST, few


@pytest.fixture(scope="module", autouse=True)
def few_images():
    """What is read is read of few images: the tests ask what becomes of the figures, and know no verdict of a trained cell."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("registry.viability.validate.probe", few)
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Shared by the tests of this file: the null of the one spec is made once."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def told():
    """What a test tells of its parts."""
    return []


@pytest.fixture(scope="module")
def report(results, told):
    """Of an untrained cell."""
    return validate(from_model(SPEC, 0, "a"), profile=TEST, cache=results, progress=lambda *row: told.append(row))
