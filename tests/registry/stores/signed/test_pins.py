"""Pins of the configuration file: the line that is proposed, every form of an address, and none that pins nothing."""

import json

import pytest

import registry
from batteries.errors import BatteriesError
from registry.stores.settings import config_file, settings
from registry.stores.signed.pins import pins_of
from registry.stores.signed.trust_guard import SignerWarning
from registry.stores.snapshot import open_snapshot
from tests.support.cells import publish
from tests.support.signing import CELL, key, pin, signing


@pytest.mark.parametrize("name", ["registry", 'with "quotes" and \\'])
def test_the_line_that_is_proposed_pins_the_key(tmp_path, name):
    publish(CELL, tmp_path / name, signing("A"))
    with pytest.warns(SignerWarning, match="add the line") as caught:
        open_snapshot(tmp_path / name)
    line = str(caught[0].message).partition("add the line ")[2].partition(" to the table")[0]
    config_file().parent.mkdir(parents=True, exist_ok=True)
    config_file().write_text(f"[trusted]\n{line}\n")
    assert settings().trusted == {str(tmp_path / name): key("A")}
    assert registry.pull("high/tiny", registry=tmp_path / name)


@pytest.mark.parametrize(
    ("name", "said"),
    [("lba", "Did you mean lab?"), ("embeded", "Did you mean embedded?"), ("cells", "Write an address, such as ./cells")],
)
def test_a_pin_under_a_name_that_is_no_registry_is_refused(tmp_path, name, said):
    publish(CELL, tmp_path / "registry", signing("A"))
    pin(name, "A")
    registries = f"[registries]\nlab = {json.dumps(str(tmp_path / 'registry'))}\n"
    config_file().write_text(registries + config_file().read_text())
    with pytest.raises(BatteriesError, match="CONFIG") as caught:
        registry.pull("lab/high/tiny")
    assert f"trusted.{name}: no such registry. {said}" in caught.value.found


@pytest.mark.parametrize("name", ["lab", "embedded", "./registry", "hf://local/other"])
def test_a_pin_under_any_form_of_a_registry_is_read(tmp_path, name):
    config_file().parent.mkdir(parents=True, exist_ok=True)
    pin(name, "A")
    config_file().write_text('[registries]\nlab = "./registry"\n' + config_file().read_text())
    assert settings().trusted == {name: [key("A")]}


@pytest.mark.parametrize(
    "name",
    [
        "https://huggingface.co/local/other",
        "HF://local/other",
        "hf:/local/other",
        "hf://local",
        "hf://local/other/more",
        "hf://@main",
        "file:///registry",
        "~of-no-such-user/registry",
        "./a\0b",
        "remote",
    ],
)
def test_a_pin_that_would_pin_nothing_is_refused(tmp_path, name):
    pin(name, "A")
    config_file().write_text('[registries]\nremote = "s3://bucket/cells"\n' + config_file().read_text())
    with pytest.raises(BatteriesError, match="CONFIG") as caught:
        settings()
    assert "no address of a registry" in caught.value.found


def test_a_pin_of_no_key_is_refused(tmp_path):
    pin(tmp_path / "registry")
    with pytest.raises(BatteriesError, match="CONFIG") as caught:
        settings()
    assert "no key" in caught.value.found


def test_a_pin_on_the_hub_holds_at_every_revision_and_in_any_case():
    pin("hf://Local/Other@v1", "A")
    for address in ("hf://local/other", "hf://LOCAL/other@main", "hf://local/Other@v2"):
        assert pins_of(address) == (key("A"),)
    assert pins_of("hf://local/another") == ()
