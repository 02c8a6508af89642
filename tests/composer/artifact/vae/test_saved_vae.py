"""A battery VAE as a file: to the bit, with its history and the lock of its parents, and not without parents."""

import json

import numpy as np
import pytest
import torch

import batteries
import composer
from batteries import BatteriesError, FormatError, IntegrityError, PolicyError
from composer.vae import train
from tests.support import vaes
from tests.support.cells import from_model


@pytest.fixture(scope="module")
def trained():
    vae = vaes.vae()
    train(vae, vaes.PLAN, batteries.NoiseSource(), vaes.probe(), until=2)
    return vae


@pytest.fixture
def path(trained, tmp_path):
    path = tmp_path / "three.safetensors"
    composer.save(trained, path)
    return path


def test_a_round_trip_keeps_every_bit(trained, path, tmp_path):
    back = composer.load(path)
    assert vaes.same(trained, back)
    assert not back.training
    x = vaes.images()
    assert torch.equal(trained.eval().reconstruct(x), back.reconstruct(x))
    assert composer.save(back, tmp_path / "again.safetensors").sha256 == composer.save(trained, path).sha256
    document = composer.read(path)
    assert document.parameters == sum(p.numel() for p in trained.parameters())
    assert document.history[0].steps == 2
    assert list(document.lock) == list(trained.names)


def test_a_loaded_one_trains_on_and_keeps_its_history(path):
    back = composer.load(path)
    before = composer.load(path)
    train(back, vaes.PLAN, batteries.NoiseSource(), vaes.probe(), until=1)
    assert [run.steps for run in back.history] == [2, 1]
    assert not vaes.same(back, before)
    assert vaes.same(composer.load(path), before)  # the file is as it was


def test_parents_are_compared_with_cells_of_now(path):
    back = composer.load(path)
    back.check_parents(vaes.cells())
    with pytest.raises(IntegrityError) as caught:
        back.check_parents({**vaes.cells(), "fine-a": from_model(vaes.FINE, 50, "fine-a")})
    assert caught.value.code == "PARENT_CHANGED"


def test_a_manifest_says_what_is_inside(trained, tmp_path):
    label = composer.artifact.PackedLabel(name="three", version="1.0.0", license="MIT", description="made by hand")
    manifest = composer.pack(trained, tmp_path / "three.safetensors", label)
    assert (manifest.path, manifest.cells, manifest.groups, manifest.steps) == ("vae/three", 3, 2, 2)
    assert manifest.error == trained.history[-1].readings[-1].error
    assert [parent.name for parent in manifest.parents] == list(trained.names)


def test_one_without_parents_is_not_saved(tmp_path):
    bare = composer.BatteryVAE.untrained(vaes.SPECS, bottleneck=8)
    with pytest.raises(PolicyError) as caught:
        composer.save(bare, tmp_path / "bare.safetensors")
    assert caught.value.code == "NO_PARENTS"
    assert list(tmp_path.iterdir()) == []


def test_one_with_a_value_that_is_no_number_is_not_saved(tmp_path):
    broken = vaes.vae()
    with torch.no_grad():
        broken.parts[0].bottleneck.mu.bias[0, 0] = np.nan
    with pytest.raises(PolicyError) as caught:
        composer.save(broken, tmp_path / "broken.safetensors")
    assert caught.value.code == "NON_FINITE"


CHANGES = {
    "a sector of another group": lambda v: v["parents"][0].update(group=1),
    "a group more": lambda v: v["groups"].append({**v["groups"][0], "hidden": 9}),
    "codes wider than a matrix": lambda v: v.update(bottleneck=49),
    "a name twice": lambda v: v["parents"][1].update(name=v["parents"][0]["name"]),
    "one parent": lambda v: v.update(parents=v["parents"][:1]),
    "rows off the sphere": lambda v: v["groups"][0].update(row_norm="none"),
    "an unknown field": lambda v: v.update(more=1),
    "a newer schema": lambda v: v.update(schema_version="2.0"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_document_that_is_not_one_is_refused(path, change):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    ((key, text),) = header["__metadata__"].items()
    document = json.loads(text)
    CHANGES[change](document)
    header["__metadata__"] = {key: json.dumps(document, sort_keys=True, separators=(",", ":"))}
    text = json.dumps(header, separators=(",", ":")).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    with pytest.raises(FormatError) as caught:
        composer.load(path)
    assert caught.value.code == ("SCHEMA_NEWER" if change == "a newer schema" else "SCHEMA")


def test_a_changed_byte_is_found(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(BatteriesError) as caught:
        composer.load(path)
    assert caught.value.code == "BLOCK_DIGEST"
