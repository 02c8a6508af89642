"""The registry that ships with the package: as trustworthy as the package, whoever signed the one before."""

import shutil

import pytest

import registry
from batteries.errors import BatteriesError
from registry.stores import settings
from tests.support.cells import publish, tiny
from tests.support.signing import pin, signing


def shipped(monkeypatch, folder, name):
    """Make a registry signed by a key the one that ships."""
    shutil.rmtree(folder, ignore_errors=True)
    publish(tiny(seed=ord(name)), folder, signing(name))  # another index for each
    monkeypatch.setattr(settings, "embedded", lambda: folder)
    return registry.find("high/tiny", registry=folder)[0].snapshot.signature


def test_another_package_may_be_signed_by_another_key(monkeypatch, tmp_path):
    first, second = (shipped(monkeypatch, tmp_path / "cells", name) for name in "AB")
    assert first.signers != second.signers
    assert second.state == "signed"


def test_a_pin_holds_for_it_too(monkeypatch, tmp_path):
    pin("embedded", "A")
    shipped(monkeypatch, tmp_path / "cells", "A")
    with pytest.raises(BatteriesError) as caught:
        shipped(monkeypatch, tmp_path / "cells", "B")
    assert caught.value.code == "WRONG_SIGNER"
