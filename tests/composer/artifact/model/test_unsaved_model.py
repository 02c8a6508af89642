"""What is no model, what cannot become a file of one, and the manifest beside it."""

import copy
import dataclasses

import pytest
import torch

from batteries import Cell
from batteries.cell import weights_file
from batteries.errors import (
    BatteriesError,
    FormatError,
    InputError,
    NotFoundError,
    PolicyError,
    StoreError,
)
from batteries.io import canonical_json
from composer import compose, load, pack, read, save
from composer.artifact import packing
from composer.artifact.manifest import PackedLabel
from composer.artifact.model.document import Artifact
from composer.artifact.model.manifest import MODEL, ModelManifest
from composer.container.container import Container
from composer.sealed import file_format as sealing
from composer.wiring.composition import Composition
from composer.wiring.nodes import Parallel
from composer.wiring.wired_model import Wired, wire
from tests.support.cells import litter, tiny
from tests.support.models import (
    NODES,
    SPECS,
    cells,
    images,
    same,
)

LABEL = PackedLabel(name="small", version="1.0.0", license="Apache-2.0", description="five cells")


def test_a_cell_is_no_model_and_a_model_no_cell(path, tmp_path):
    cell_file = tiny().write(tmp_path)
    with pytest.raises(FormatError) as caught:
        load(cell_file)
    assert caught.value.code == "NOT_A_MODEL"
    assert "batteries.Cell.read" in str(caught.value)
    with pytest.raises(FormatError) as caught:
        Cell.read(path)
    assert caught.value.code == "A_MODEL"
    assert "composer.load" in str(caught.value)
    with pytest.raises(FormatError, match="A_MODEL"):
        weights_file.read(path.read_bytes(), SPECS["noise"], where="x")


def test_files_that_are_none(tmp_path):
    with pytest.raises(NotFoundError, match="NO_FILE"):
        load(tmp_path / "none.safetensors")
    for name, data in {"empty": b"", "short": b"1234567", "zeros": bytes(1000), "text": b"x" * 1000}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(FormatError, match=r"ST_SHORT|NOT_A_MODEL"):
            load(tmp_path / name)
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "zeros")
    with pytest.raises(FormatError, match="NOT_A_MODEL"):
        load(tmp_path / "link.safetensors")
    with pytest.raises(BatteriesError, match="DISK"):
        load(tmp_path)


def test_a_file_too_large_is_not_mapped(tmp_path):
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.truncate(4 * 2**30 + 1)
    with pytest.raises(FormatError, match="TOO_LARGE"):
        load(path)
    with path.open("wb") as file:
        file.truncate(4 * 2**30)  # a hole of zeros: its header has no size
    with pytest.raises(FormatError, match="NOT_A_MODEL"):
        load(path)


def test_what_cannot_be_saved(made, tmp_path):
    with pytest.raises(InputError, match="SUFFIX"):
        save(made, tmp_path / "model.bin")
    broken = copy.deepcopy(made)
    with torch.no_grad():
        next(iter(broken.routers.parameters())).fill_(float("nan"))
    with pytest.raises(PolicyError, match="NON_FINITE"):
        save(broken, tmp_path / "nan.safetensors")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="DISK"):
        save(made, tmp_path / "file" / "model.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert litter(tmp_path) == []


def without_maps(broken):
    broken.maps = {}


def without_routers(broken):
    broken.routers = torch.nn.ModuleDict()


def with_another_router(broken):
    broken.routers[next(iter(broken.routers))] = torch.nn.Linear(3, 3)


def with_a_narrow_map(broken):
    narrow = {"centre": torch.zeros(3), "translation": torch.zeros(3), "rotation": torch.eye(3)}
    broken.maps["swap"] = dataclasses.replace(broken.maps["swap"], **narrow)


def with_a_map_of_two_widths(broken):
    broken.maps["swap"] = dataclasses.replace(broken.maps["swap"], rotation=torch.eye(3))


def with_a_narrow_frame(broken):
    consensus = broken.container.consensus
    narrow = {"centre": torch.zeros(2), "translation": torch.zeros(2), "rotation": torch.eye(2)}
    maps = tuple(dataclasses.replace(one, **narrow) for one in consensus.maps)
    broken.container.consensus = dataclasses.replace(consensus, maps=maps)


def with_a_scale_that_is_no_number(broken):
    broken.maps["swap"] = dataclasses.replace(broken.maps["swap"], scale=float("nan"))


@pytest.mark.parametrize(
    ("change", "kind", "code"),
    [
        (without_maps, InputError, "PARTS"),
        (without_routers, InputError, "PARTS"),
        (with_another_router, InputError, "PARTS"),
        (with_a_narrow_map, InputError, "PARTS"),
        (with_a_map_of_two_widths, InputError, "PARTS"),
        (with_a_narrow_frame, InputError, "PARTS"),
        (with_a_scale_that_is_no_number, PolicyError, "NON_FINITE"),
    ],
)
def test_a_model_that_was_taken_apart_is_not_saved(made, tmp_path, change, kind, code):
    broken = copy.deepcopy(made)
    change(broken)
    with pytest.raises(kind) as caught:
        save(broken, tmp_path / "broken.safetensors")
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.half, torch.double])
def test_routers_of_another_dtype_are_saved_as_the_float32_that_they_are(made, tmp_path, dtype):
    cast = copy.deepcopy(made).to(dtype)
    save(cast, tmp_path / "cast.safetensors")
    loaded = load(tmp_path / "cast.safetensors")
    ours, theirs = cast.routers.state_dict(), loaded.routers.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(theirs[name].dtype == torch.float32 and torch.equal(theirs[name], ours[name].float()) for name in ours)
    assert same(copy.deepcopy(cast).float(), loaded, images())


def test_what_is_no_path_and_no_model(made, tmp_path):
    path = tmp_path / "x.safetensors"
    for attempt, code in (
        (lambda: load(None), "BAD_PATH"),
        (lambda: read(3), "BAD_PATH"),
        (lambda: save(made, None), "BAD_PATH"),
        (lambda: pack(made, None, LABEL), "BAD_PATH"),
        (lambda: pack(made, path, None), "LABEL"),
        (lambda: save(None, path), "MODEL"),
        (lambda: save(made.routers, path), "MODEL"),
    ):
        with pytest.raises(InputError) as caught:
            attempt()
        assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_a_container_by_itself_is_saved_as_cells_side_by_side(made, tmp_path):
    path = tmp_path / "plain.safetensors"
    manifest = pack(made.container, path, LABEL)
    assert (manifest.cells, manifest.output, manifest.counts) == (5, "all", {"parallel": 1})
    loaded = load(path)
    assert isinstance(loaded, Container)
    assert loaded.lock == made.lock
    assert loaded.names == made.names
    batch = images()
    wanted, found = made.container(batch), loaded(batch)
    for name in made.container.names:
        assert torch.equal(found.output[name].recon, wanted[name].recon)
        assert torch.equal(found[name].aligned, wanted[name].aligned)
    for again in (made.container, loaded):
        save(again, tmp_path / "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("references", "node"), [(("high/x@1.0.0", "high/y"), "all"), (("high/x@1.0.0", "high/y@1.0.0"), "both")]
)
def test_a_composition_comes_back_as_one_unless_a_containers_file_is_the_same(tmp_path, references, node):
    some = cells({"x": SPECS["low"], "y": SPECS["low"]})
    named = dict(zip(some, references, strict=True))
    nodes = {node: Parallel(of=("x", "y"))}
    model = wire(some, Composition(schema_version="1.0", output=node, cells=named, nodes=nodes))
    save(model, tmp_path / "x.safetensors")
    loaded = load(tmp_path / "x.safetensors")
    assert isinstance(loaded, Wired)
    assert loaded.composition == model.composition


@pytest.mark.parametrize("names", [["all"], ["all", "all.2"], ["all.2", "all", "x"], ["x"]])
def test_a_cell_of_a_container_may_have_the_name_of_the_node(tmp_path, names):
    container = compose(cells(dict.fromkeys(names, SPECS["low"])))
    save(container, tmp_path / "x.safetensors")
    loaded = load(tmp_path / "x.safetensors")
    assert isinstance(loaded, Container)
    assert list(loaded.names) == names
    assert list(loaded(images()).output) == names
    said = read(tmp_path / "x.safetensors").composition
    assert said.output == next(name for name in ("all", "all.2", "all.3") if name not in names)


def test_names_that_no_file_takes_are_refused(tmp_path):
    for name in ("A b", "x*", 1):
        with pytest.raises(InputError) as caught:
            save(compose(cells({name: SPECS["low"]})), tmp_path / "x.safetensors")
        assert caught.value.code == "CELLS"


def test_more_than_a_file_may_have_is_not_written(made, tmp_path, monkeypatch):
    monkeypatch.setattr(sealing, "MAX_HEADER", 1000)
    with pytest.raises(PolicyError, match="MODEL_TOO_LARGE"):
        save(made, tmp_path / "x.safetensors")
    monkeypatch.setattr(Artifact, "KIND", dataclasses.replace(MODEL, limit=1000))
    with pytest.raises(PolicyError, match="MODEL_TOO_LARGE"):
        save(made, tmp_path / "x.safetensors")
    monkeypatch.setattr(sealing, "MAX_TENSORS", 10)
    with pytest.raises(PolicyError, match="MODEL_TOO_LARGE"):
        save(made, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_says_what_the_file_is(made, tmp_path):
    manifest = pack(made, tmp_path / "small.safetensors", LABEL)
    data = (tmp_path / "small.json").read_bytes()
    assert ModelManifest.from_bytes(data, where="x") == manifest
    assert manifest.path == "model/small"
    assert manifest.file.sha256 == canonical_json.sha256((tmp_path / "small.safetensors").read_bytes())
    assert (manifest.cells, manifest.groups, manifest.channels) == (5, 3, 3)
    assert manifest.parameters == sum(spec.parameters for spec in SPECS.values())
    assert (manifest.output, manifest.output_kind, manifest.aligned) == ("all", "parallel", True)
    assert manifest.counts == {"parallel": 1, "relay": 2, "route": 2}
    assert {node.name: node.reads for node in manifest.nodes} == {name: len(node.reads) for name, node in NODES.items()}
    assert manifest.lock == canonical_json.sha256(canonical_json.dump(made.container.lock))


def test_a_manifest_stays_small_whatever_the_model_is(tmp_path):
    spec = SPECS["low"]
    cell = next(iter(cells({"x": spec}).values()))
    names = [f"{'n' * 60}/{'m' * 60}{n:04d}" for n in range(300)]
    composition = Composition.parallel(dict.fromkeys(names, f"high/{'x' * 64}@1.0.0"))
    nodes = {f"{'o' * 60}/{'p' * 60}{n:04d}": {"kind": "parallel", "of": (names[n],)} for n in range(299)}
    composition = Composition.model_validate(
        {
            "schema_version": "1.0",
            "output": "all",
            "cells": composition.cells,
            "nodes": {**nodes, "all": {"kind": "parallel", "of": (*nodes, names[299])}},
        }
    )
    big = wire(dict.fromkeys(names, cell), composition)
    label = LABEL.model_copy(update={"description": "\x01" * 2000})
    pack(big, tmp_path / "big.safetensors", label)
    assert (tmp_path / "big.json").stat().st_size < 64 * 2**10
    ModelManifest.from_bytes((tmp_path / "big.json").read_bytes(), where="x")


def test_a_manifest_too_large_writes_nothing(made, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "MAX_MANIFEST", 100)
    with pytest.raises(PolicyError, match="MANIFEST_TOO_LARGE"):
        pack(made, tmp_path / "small.safetensors", LABEL)
    assert list(tmp_path.iterdir()) == []
