"""Without the libraries of signatures everything works as before, and says what was not checked."""

import subprocess
import sys

import pytest

import registry
from batteries.errors import BatteriesError, InputError, PolicyError
from registry.cli import main
from registry.stores.snapshot import open_snapshot
from registry.trust import keys
from registry.trust.signing import Signing
from tests.support.cells import ROOT, publish, tiny
from tests.support.signing import CELL, INDEX, Folder, forged_release, key, pin, signed, signing

pytestmark = pytest.mark.filterwarnings("ignore::registry.stores.signed.trust_guard.SignerWarning")


@pytest.fixture
def folder(tmp_path):
    publish(CELL, tmp_path / "signed", signing("A"))
    return tmp_path / "signed"


@pytest.fixture
def lacking(monkeypatch):
    """Call it, and python-tuf is not installed."""
    return lambda: monkeypatch.setitem(sys.modules, "tuf.api.metadata", None)


def test_a_signature_is_said_not_to_be_checked(folder, lacking, capsys):
    lacking()
    assert registry.pull("high/tiny", registry=folder)[0].digest == CELL.digest
    assert open_snapshot(folder).signature.state == "not checked"
    assert main(["list", "--registry", str(folder)]) == 0
    assert "signature not checked (pip install 'svae-batteries[trust]')" in capsys.readouterr().err
    assert main(["show", "high/tiny", "--registry", str(folder)]) == 0
    assert capsys.readouterr().out.count("signature not checked") == 2


def test_an_unsigned_registry_is_said_to_be_unsigned(tmp_path, lacking, capsys):
    lacking()
    publish(CELL, tmp_path / "plain")
    assert main(["list", "--registry", str(tmp_path / "plain")]) == 0
    assert "; not signed" in capsys.readouterr().err


def test_where_a_key_is_pinned_the_extra_is_needed(folder, lacking):
    pin(folder, "A")
    lacking()
    with pytest.raises(PolicyError, match=r"svae-batteries\[trust\]") as caught:
        open_snapshot(folder)
    assert caught.value.code == "EXTRA"


def test_an_index_that_was_checked_before_needs_it_no_more(folder, lacking):
    pin(folder, "A")
    open_snapshot(folder)
    place = Folder(folder)
    files = forged_release(place)
    files |= signed(files[INDEX], "X")
    lacking()
    assert open_snapshot(folder).signature.signers == (key("A"),)
    place.write(files)
    with pytest.raises(PolicyError, match="EXTRA"):
        open_snapshot(folder)


def test_keys_are_neither_made_nor_used(folder, tmp_path, lacking):
    keys.make_key(tmp_path / "key.pem")
    lacking()
    for attempt in (
        lambda: keys.make_key(tmp_path / "other.pem"),
        lambda: Signing.read(tmp_path / "key.pem"),
        lambda: keys.read_public(tmp_path / "key.pem.pub"),
        lambda: publish(tiny("other"), folder),
    ):
        with pytest.raises(InputError, match=r"svae-batteries\[trust\]") as caught:
            attempt()
        assert caught.value.code == "EXTRA"
    assert not (tmp_path / "other.pem").exists()


def test_what_must_be_signed_by_a_key_is_not_passed_over(folder, lacking):
    lacking()
    found = registry.verify("high/tiny", registry=folder, signed_by=[key("A")])
    assert [one.error.code for one in found if not one.ok] == ["EXTRA"]
    assert all(one.ok for one in registry.verify("high/tiny", registry=folder))


def test_a_broken_library_is_named(folder, monkeypatch):
    monkeypatch.delitem(sys.modules, "tuf.api.metadata")
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setitem(sys.modules, "tuf.api", object())
    pin(folder, "A")
    with pytest.raises(BatteriesError, match="EXTRA"):
        open_snapshot(folder)


@pytest.mark.slow
def test_no_library_of_signatures_is_imported_for_registries_without_any(tmp_path):
    publish(CELL, tmp_path / "plain")
    source = """
import sys
from registry.cli import main
assert main(["list", "--registry", sys.argv[1]]) == 0
assert main(["--help"]) == 0
found = {"tuf", "securesystemslib", "cryptography"} & {name.split(".")[0] for name in sys.modules}
assert not found, found
"""
    ran = subprocess.run([sys.executable, "-c", source, str(tmp_path / "plain")], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
