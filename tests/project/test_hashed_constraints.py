"""The constraints with hashes: the versions of the others, a hash for every file, and no address."""

import re
import tomllib

from tests.support.cells import ROOT

PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([^ ;\\]+)")
TEXT = (ROOT / "constraints-hashed.txt").read_text()


def name_of(text):
    return re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", text)[0]).lower()


def pins(text):
    return {name_of(found[1]): found[2] for line in text.splitlines() if (found := PIN.match(line))}


def test_the_versions_are_those_of_the_other_constraints():
    hashed, plain = pins(TEXT), pins((ROOT / "constraints.txt").read_text())
    assert {name: version for name, version in hashed.items() if version != plain.get(name, version)} == {}


def test_every_dependency_has_hashes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(one for name in extras.keys() - {"dev", "docs"} for one in extras[name])]
    assert {name_of(one) for one in wanted} <= pins(TEXT).keys()
    blocks = re.split(r"\n(?=[a-z])", "\n".join(line for line in TEXT.splitlines() if not line.startswith("#")))
    assert len(blocks) == len(pins(TEXT))
    assert [block for block in blocks if not re.search(r"--hash=sha256:[0-9a-f]{64}", block)] == []


def test_no_address_is_in_it():
    assert "://" not in TEXT
    assert not re.search(r"--(index|extra-index|find-links|trusted)", TEXT)
