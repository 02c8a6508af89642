"""Commands inspect and compare, their answers, tables and page."""

import json
from html.parser import HTMLParser

import pytest

import batteries
from batteries import diagnostics
from registry import reports
from registry.answers.inspection import INSPECTING, ComparedCells, Inspected
from registry.reports import inspection_tables
from tests.support.cells import from_model
from tests.support.terminals import narrow

SPEC = batteries.CellSpec.preset("low", hidden=8, smooth_width=2)


@pytest.fixture(scope="module")
def found():
    model = batteries.untrained(SPEC, seed=0)
    noise = batteries.probe("noise16-64")
    few = batteries.Probe(noise.name, 1, "noise", noise.images[::8], noise.group[::8], noise.groups, "few")
    return diagnostics.inspect(model, few, sizes=(64, 32), name="low/<b>one</b>")
