"""Viability tests in a worker: what a test shortens in its own process, a worker knows nothing of."""

import sys

import pytest

import registry
from batteries.errors import InputError
from tests.support import tasks
from tests.support.cells import attestation


def short_validate(cell, **settings):
    """Run the test on few images, a matter of seconds."""
    from registry.viability.validate import validate  # with torch, which other calls of this module do without
    from tests.support.viability import TEST, few

    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(registry.PROFILES, "quick", TEST)
        patched.setattr("registry.viability.validate.probe", few)
        patched.setattr(sys.modules["batteries.measurement.measure"], "MATRICES", 32)
        return validate(cell, **settings)


def named_verdict(cell, **settings):
    """Return the verdict that a cell's name asks for, or fail if it does."""
    name = cell.manifest.identity.name
    if name == "untested":
        raise InputError("no test of this cell", code="UNTESTED", found=cell.name)
    if name == "broken":
        raise ZeroDivisionError("by zero")
    if name == "killer":
        tasks.killed()
    return registry.Report(attestation(cell, verdict="walked back" if name == "walked" else "viable"))
