"""Figures of few images."""

import dataclasses
import sys

import pytest

from batteries import probe


@pytest.fixture
def few(monkeypatch):
    """Measure on one image of a group, and little of it."""

    def some(name):
        whole, every = probe(name), 6 if name == "photos-64" else 16
        return dataclasses.replace(whole, images=whole.images[::every], group=whole.group[::every])

    monkeypatch.setattr("batteries.packaging.package.probe", some)
    monkeypatch.setattr("registry.transfer.remeasure.probe", some)
    monkeypatch.setattr("batteries.packaging.package.BASELINE_PATCHES", 512)
    monkeypatch.setattr(sys.modules["batteries.measurement.measure"], "MATRICES", 64)
