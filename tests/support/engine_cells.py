"""Short work on cells, in a worker as in the driver: what a test shortens in its own process, a worker knows nothing of."""

import sys

import pytest

import registry
from batteries.errors import InputError
from registry.viability.validate import validate
from tests.support.viability import TEST, few


def short_validate(cell, **settings):
    """The viability test on few images, a matter of seconds; a cell named ``b-fails`` cannot be tested."""
    if getattr(cell, "name", "").endswith("fails"):
        raise InputError("no test of this cell", code="UNTESTED", found=cell.name)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(registry.PROFILES, "quick", TEST)
        patched.setattr("registry.viability.validate.probe", few)
        patched.setattr(sys.modules["batteries.measurement.measure"], "MATRICES", 32)
        return validate(cell, **settings)
