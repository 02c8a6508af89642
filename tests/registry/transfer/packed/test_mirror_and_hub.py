"""Copies of a registry of all kinds: a mirror, what is remembered of it, and the Hub."""

import shutil

import pytest

import registry
from batteries.errors import IntegrityError
from registry.catalog.index import Index
from registry.catalog.release import PackedRelease, Release
from registry.stores.directory import DirectoryStore
from registry.stores.registry_card import registry_card
from registry.stores.snapshot import open_snapshot
from registry.transfer.mirror import mirror
from registry.transfer.remarks import yank
from tests.support.cells import publish, tiny
from tests.support.hubserver import QUIET


@pytest.mark.slow
def test_a_mirror_has_all_kinds(kind, folder, tmp_path):
    yank(f"{kind.path}@1.0.0", "old", folder)
    mirrored = mirror(folder, tmp_path / "mirror")
    assert (mirrored.cells, mirrored.models, mirrored.maps, mirrored.vaes, mirrored.copied) == (1, 3, 3, 3, 10)
    assert mirror(folder, tmp_path / "mirror").copied == 0
    first, second = (open_snapshot(place).index for place in (folder, tmp_path / "mirror"))
    assert (first.cells, first.models, first.maps, first.vaes) == (second.cells, second.models, second.maps, second.vaes)
    assert all(finding.ok for finding in registry.verify_store(DirectoryStore(tmp_path / "mirror")))


def test_an_artifact_that_went_away_is_refused(kind, files, tmp_path):
    folder = tmp_path / "registry"
    publish(tiny(), folder)
    publish(files / f"{kind.name}.safetensors", folder)
    open_snapshot(folder)
    shutil.rmtree(folder)
    publish(tiny(), folder)
    for number in range(4):
        publish(tiny(f"cell-{number}"), folder)
    with pytest.raises(IntegrityError) as caught:
        open_snapshot(folder)
    assert caught.value.code == "VERSION_MUTATED"
    assert f"{kind.path}@1.0.0" in caught.value.found


SHOWN = {
    "model": ("model/trio@1.1.0",),
    "maps": ("maps/five@1.1.0", "maps/pair@1.0.0", "2 x 2", "high/cell-3@1.0.0"),
    "vae": ("vae/three@1.1.0", "vae/other@1.0.0"),
}


@pytest.mark.slow
@pytest.mark.filterwarnings(QUIET)
def test_all_kinds_on_the_hub(kind, files, hub, elsewhere):
    where = "hf://me/cells"
    for cell in (tiny(), tiny("other", seed=1)):
        publish(cell, where)
    for name in (kind.name, f"{kind.name}-later", kind.other):
        publish(files / f"{name}.safetensors", where)
    elsewhere()
    hub.forget()
    assert kind.same(kind.first, registry.pull(f"{kind.path}@1.0.0", registry=where)[0])
    assert hub.asked["file"] <= 4  # the index, a manifest, a file; and one for where the file is kept
    card = registry_card(open_snapshot(where).index, where)
    assert all(text in card for text in SHOWN[kind.kind])
    findings = registry.verify(kind.path, f"{kind.kind}/{kind.other}", registry=where)
    assert all(finding.ok for finding in findings)
    hub.forget()
    assert kind.same(kind.first, registry.pull(f"{kind.path}@1.0.0", registry=where, mode="offline")[0])
    assert not hub.log


def test_a_card_has_a_table_of_a_kind_that_is_there(kind, files):
    index = Index().with_release("high/tiny", "1.0.0", Release.of(tiny().manifest))
    assert f"{kind.kind}/" not in registry_card(index, "hf://me/cells").lower()
    index = Index().with_release(kind.path, "1.0.0", PackedRelease.of(kind.manifest(files)))
    assert f"batteries pull {kind.path}" in registry_card(index, "hf://me/cells")
    assert f"{kind.path}@1.0.0" in registry_card(index.with_yank(kind.path, "1.0.0", "no"), "hf://me/cells")
