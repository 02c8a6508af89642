"""Maps that cannot be saved, and the manifest beside those that can."""

import copy
import dataclasses

import pytest
import torch

from batteries.errors import InputError, IntegrityError, PolicyError, StoreError
from batteries.io import canonical_json
from composer import pack, save
from composer.artifact import MapsManifest, PackedLabel, packing
from composer.artifact.maps.document import SavedMaps
from composer.artifact.maps.manifest import MAPS
from composer.procrustes.consensus import consensus as of_tokens
from composer.sealed import file_format as sealing
from tests.support.maps import direct
from tests.support.models import least

LABEL = PackedLabel(name="small", version="1.0.0", license="Apache-2.0", description="five cells")


def without_ends(found):
    return dataclasses.replace(found, maps=(dataclasses.replace(found.maps[0], pairing=None), *found.maps[1:]))


def of_another_fit(found):
    pairing = dataclasses.replace(found.maps[0].pairing, probe="0" * 64)
    return dataclasses.replace(found, maps=(dataclasses.replace(found.maps[0], pairing=pairing), *found.maps[1:]))


def into_another_frame(found):
    return dataclasses.replace(found, frame=dataclasses.replace(found.frame, tokens=found.frame.tokens + 1))


def with_a_nan(found):
    turned = found.maps[0].rotation.clone()
    turned[0, 0] = torch.nan
    return dataclasses.replace(found, maps=(dataclasses.replace(found.maps[0], rotation=turned), *found.maps[1:]))


def of_other_tokens(found):
    return dataclasses.replace(found, kind="S")


def with_a_batch(found):
    one = found.maps[0]
    return dataclasses.replace(one, rotation=torch.stack([one.rotation] * 2))


def with_a_wide_map(found):
    one = found.maps[0]
    return dataclasses.replace(found, maps=(dataclasses.replace(one, padded=(9, 0)), *found.maps[1:]))


WRONG = {
    "no maps at all": (lambda found: None, InputError, "MODEL"),
    "maps without a consensus": (lambda found: found.maps, InputError, "MODEL"),
    "a consensus of nobody": (lambda found: found.of([]), InputError, "PARTS"),
    "a map without ends": (without_ends, InputError, "NO_ENDS"),
    "a map back from the frame": (lambda found: found.maps[0].inverse(), InputError, "LOCK"),
    "a batch of maps": (with_a_batch, InputError, "NO_ENDS"),
    "maps of two fits": (of_another_fit, InputError, "PARTS"),
    "maps of other tokens than their consensus": (of_other_tokens, InputError, "PARTS"),
    "maps into another frame": (into_another_frame, IntegrityError, "END_CHANGED"),
    "numbers that are none": (with_a_nan, PolicyError, "NON_FINITE"),
    "a residual that is none": (
        lambda found: dataclasses.replace(found, frame=dataclasses.replace(found.frame, residual=float("inf"))),
        PolicyError,
        "NON_FINITE",
    ),
    "a map that cannot be": (with_a_wide_map, InputError, "PARTS"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_saved(of, found, tmp_path, name):
    make, kind, code = WRONG[name]
    with pytest.raises(kind) as caught:
        save(make(found), tmp_path / "x.safetensors", lock=of.lock)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_bare_tokens_have_no_ends_that_a_file_could_name(of, tmp_path):
    bare = of_tokens({"a": torch.randn(6, 4, 3), "b": torch.randn(6, 4, 3)})
    with pytest.raises(InputError, match="NO_ENDS"):
        save(bare, tmp_path / "x.safetensors", lock=of.lock)


def test_a_lock_has_to_name_the_cells_and_fit_them(of, found, tmp_path):
    less = {name: row for name, row in of.lock.items() if name != "low"}
    other = copy.deepcopy(of.lock)
    other["low"]["tensors"] = "0" * 64
    short = {name: {"tensors": row["tensors"]} for name, row in of.lock.items()}
    named = {name.replace("low", "Low Cell"): row for name, row in of.lock.items()}
    renamed = dataclasses.replace(found, names=tuple(named))
    for maps, lock, kind, code in (
        (found, less, InputError, "LOCK"),
        (found, None, InputError, "LOCK"),
        (found, {"low": "x"}, InputError, "LOCK"),
        (found, other, IntegrityError, "END_CHANGED"),
        (found, short, InputError, "PARTS"),
        (renamed, named, InputError, "PARTS"),
        (direct(of, "noise", "low"), less, InputError, "LOCK"),
        (direct(of, "noise", "low"), other, InputError, "LOCK"),
    ):
        with pytest.raises(kind) as caught:
            save(maps, tmp_path / "x.safetensors", lock=lock)
        assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_paths_labels_and_disks(of, found, tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "x.safetensors"
    for attempt, kind, code in (
        (lambda: save(found, tmp_path / "x.bin", lock=of.lock), InputError, "SUFFIX"),
        (lambda: save(found, None, lock=of.lock), InputError, "BAD_PATH"),
        (lambda: save(found, path), InputError, "LOCK"),
        (lambda: save(of, path, lock=of.lock), InputError, "LOCK"),
        (lambda: pack(least(), path, LABEL, lock={}), InputError, "LOCK"),
        (lambda: pack(found, path, None, lock=of.lock), InputError, "LABEL"),
        (lambda: save(found, tmp_path / "file" / "x.safetensors", lock=of.lock), StoreError, None),
    ):
        with pytest.raises(kind) as caught:
            attempt()
        assert code in (None, caught.value.code)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_more_than_a_file_may_have_is_not_written(of, found, tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    monkeypatch.setattr(packing, "MAX_MANIFEST", 100)
    with pytest.raises(PolicyError, match="MANIFEST_TOO_LARGE"):
        pack(found, path, LABEL, lock=of.lock)
    monkeypatch.setattr(sealing, "MAX_HEADER", 1000)
    with pytest.raises(PolicyError, match="MAPS_TOO_LARGE"):
        save(found, path, lock=of.lock)
    monkeypatch.setattr(SavedMaps, "KIND", dataclasses.replace(MAPS, limit=1000))
    with pytest.raises(PolicyError, match="MAPS_TOO_LARGE"):
        save(found, path, lock=of.lock)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_says_what_the_file_is(of, found, tmp_path):
    manifest = pack(found, tmp_path / "small.safetensors", LABEL, lock=of.lock)
    assert MapsManifest.from_bytes((tmp_path / "small.json").read_bytes(), where="x") == manifest
    assert manifest.path == "maps/small"
    assert manifest.file.sha256 == canonical_json.sha256((tmp_path / "small.safetensors").read_bytes())
    assert (manifest.cells, manifest.tokens, manifest.grid, manifest.width) == (5, "omega", (2, 2), 8)
    assert (manifest.frame.rows, manifest.target, manifest.scored) == (32, None, True)
    assert manifest.lock == canonical_json.sha256(canonical_json.dump(of.lock))
    assert [cell.name for cell in manifest.sources] == list(of.names)
    one = pack(direct(of, "wide", "noise"), tmp_path / "one.safetensors", LABEL, lock=of.lock)
    assert (one.cells, one.frame, one.target.name, one.width, one.scored) == (2, None, "noise", 4, False)
