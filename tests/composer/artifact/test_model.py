"""A composed model as one file: what was saved is what is loaded, to the last bit, and nothing else is."""

import copy
import dataclasses
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load as load_safetensors

import registry
from batteries import Cell, probe
from batteries.cell import weights_file
from batteries.errors import (
    BatteriesError,
    FormatError,
    InputError,
    IntegrityError,
    NotFoundError,
    PolicyError,
    StoreError,
)
from batteries.io import atomic_files, canonical_json
from composer import compose, grids, load, pack, read, save
from composer.artifact import packing
from composer.artifact.kinds import FORMS
from composer.artifact.manifest import PackedLabel
from composer.artifact.model.document import Artifact, router_shapes
from composer.artifact.model.manifest import MODEL, ModelManifest
from composer.container.container import Container
from composer.sealed import block_digests
from composer.sealed import file_format as sealing
from composer.sealed import reader as opening
from composer.wiring.composition import Composition
from composer.wiring.nodes import Parallel, Relay
from composer.wiring.route import Router
from composer.wiring.wired_model import Wired, wire
from tests.support.cells import litter, python, tiny
from tests.support.models import (
    NODES,
    SPECS,
    cells,
    document,
    forgeries,
    framed,
    images,
    least,
    model,
    same,
    sealed,
    with_document,
)

LABEL = PackedLabel(name="small", version="1.0.0", license="Apache-2.0", description="five cells")


@pytest.fixture(scope="module")
def made():
    return model()


@pytest.fixture(scope="module")
def path(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "small.safetensors"
    save(made, path)
    return path


@pytest.fixture(scope="module")
def little(tmp_path_factory):
    """The bytes of a model of one cell."""
    path = tmp_path_factory.mktemp("models") / "least.safetensors"
    save(least(), path)
    return path.read_bytes()


def opened(data):
    return FORMS["model"].open(data, where="test")


# What is loaded is what was saved.


def test_what_is_loaded_computes_what_was_saved(made, path):
    loaded = load(path)
    for batch in (images(), images(3, seed=1), images(1, seed=2)[:, :, :8, :8]):
        assert same(made, loaded, batch)
    loaded.container.verify()


@pytest.mark.slow
def test_trained_cells_compute_the_same_from_their_file(tmp_path):
    references = {"noise": "high/johanna-64", "photo": "high/fresnel-64", "low": "low/fresnel-64", "low.2": "low/johanna-64"}
    trained = dict(zip(references, registry.pull(*references.values()), strict=True))
    nodes = {**NODES, "swap": Relay(source="noise", target="photo"), "all": Parallel(of=("by.router", "by.error"))}
    composition = Composition(schema_version="1.0", output="all", cells=references, nodes=nodes)
    batch = probe("photos-64").images[:12]
    wired = wire(trained, composition, batch).eval()
    save(wired, tmp_path / "trained.safetensors")
    loaded = load(tmp_path / "trained.safetensors")
    loaded.container.verify()
    assert same(wired, loaded, batch[:5])
    assert same(wired, loaded, torch.randn(1, 3, 32, 32))


def test_everything_that_a_model_is_comes_back(made, path):
    loaded = load(path)
    assert loaded.composition == made.composition
    assert list(loaded.composition.cells) == list(SPECS) == list(loaded.container.names)
    assert loaded.container.lock == made.container.lock
    assert loaded.container.digest == made.container.digest
    assert loaded.container.scale == made.container.scale
    assert [group.spec for group in loaded.container.groups] == [group.spec for group in made.container.groups]
    assert torch.equal(loaded.get_extra_state(), made.get_extra_state())
    ours, theirs = loaded.container.consensus, made.container.consensus
    for fact in ("names", "scores", "kind", "grid", "probe"):
        assert getattr(ours, fact) == getattr(theirs, fact)
    assert torch.equal(ours.frame.tokens, theirs.frame.tokens)
    assert torch.equal(ours.frame.rows, theirs.frame.rows)
    assert ours.frame.residual == theirs.frame.residual
    pairs = [*zip(ours.maps, theirs.maps, strict=True), *((loaded.maps[name], made.maps[name]) for name in made.maps)]
    assert len(pairs) == 7
    for one, other in pairs:
        for name, value in vars(other).items():
            found = getattr(one, name)
            assert torch.equal(found, value) and found.dtype == value.dtype if torch.is_tensor(value) else found == value


def test_a_loaded_model_is_saved_to_the_same_bytes(path, tmp_path):
    facts = save(load(path), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    assert (facts.size, facts.sha256) == (path.stat().st_size, canonical_json.sha256(path.read_bytes()))
    assert facts.seal == read(path).seal


def test_a_state_of_one_is_a_state_of_the_other(made, path):
    loaded = load(path)
    loaded.load_state_dict(made.state_dict())
    made.load_state_dict(loaded.state_dict())


def test_a_model_of_float64_is_saved_as_the_float32_it_came_from(made, path, tmp_path):
    wide = model(dtype=torch.float64)
    for relay, fitted in made.maps.items():  # fitted in float64, these differ in their last bits
        wide.maps[relay] = fitted
    wide.container.consensus = made.container.consensus
    save(wide, tmp_path / "wide.safetensors")
    assert (tmp_path / "wide.safetensors").read_bytes() == path.read_bytes()


def test_a_part_of_a_container_is_saved_without_the_rest(made, tmp_path):
    names = ["low", "photo"]
    composition = Composition.parallel({name: made.composition.cells[name] for name in names})
    part = Wired(made.container.part(names), composition, {}, torch.nn.ModuleDict()).eval()
    save(part, tmp_path / "part.safetensors")
    loaded = load(tmp_path / "part.safetensors")
    assert list(loaded.container.names) == names
    assert loaded.container.explain((16, 16)).parameters == sum(SPECS[name].parameters for name in names)
    assert same(part, loaded, images())
    loaded.container.verify()


def test_without_a_probe_there_is_no_frame(tmp_path):
    save(least(), tmp_path / "least.safetensors")
    loaded = load(tmp_path / "least.safetensors")
    assert loaded.container.consensus is None
    assert same(least(), loaded, torch.randn(2, 1, 4, 4))


@pytest.mark.slow
def test_the_same_model_gives_the_same_bytes_in_every_process(path, tmp_path):
    code = "import sys; from composer import save; from tests.support.models import model; "
    code += "save(model(), sys.argv[1])"
    for seed in ("1", "2"):
        found = tmp_path / f"{seed}.safetensors"
        done = python(code, found, PYTHONHASHSEED=seed, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()
    # the maps' last bits are a matter of threads, the rest is not
    assert document((tmp_path / "1.safetensors").read_bytes())["cells"] == document(path.read_bytes())["cells"]


def test_the_formats_own_reader_reads_it(made, path):
    found = load_safetensors(path.read_bytes())
    (group, names) = (made.container.groups[0], ["noise", "photo"])
    for name, tensor in group.stack.tensors().items():
        assert found[f"groups.0.{name}"].shape[0] == len(names)
        assert np.array_equal(found[f"groups.0.{name}"], tensor.numpy())
    assert {array.dtype.name for name, array in found.items() if name.startswith(("frame", "relays"))} == {"float64"}


def test_large_tensors_keep_to_whole_vectors(path):
    rows = opened(path.read_bytes()).layout
    assert (8 + int.from_bytes(path.read_bytes()[:8], "little")) % 64 == 0
    whole = [row for row in rows.values() if (row.end - row.start) % 64 == 0]
    assert len(whole) > 10
    assert all(row.start % 64 == 0 for row in whole)
    assert all(row.start % sealing.ITEM[row.dtype] == 0 for row in rows.values())


def test_a_loaded_model_is_for_use_and_its_router_can_be_trained(path):
    before = torch.random.get_rng_state()
    loaded = load(path)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not loaded.training
    loaded.train()
    loss = loaded(images())["by.router"].recon.square().mean()
    loss.backward()
    assert all(parameter.grad is not None for parameter in loaded.routers.parameters())
    with torch.no_grad():
        for parameter in loaded.routers.parameters():
            parameter.add_(1)
    assert same(load(path), load(path), images(2))


def test_what_is_written_into_the_memory_changes_no_file_and_is_found(path):
    loaded, before = load(path), path.read_bytes()
    stack = loaded.container.groups[0].stack
    with pytest.raises(PolicyError, match="FROZEN"):
        stack.enc_in__weight.zero_()
    stack.enc_in__weight.data.zero_()
    with pytest.raises(IntegrityError, match="CONTAINER_CHANGED"):
        loaded.container.verify()
    assert path.read_bytes() == before
    with pytest.raises(IntegrityError, match="CONTAINER_CHANGED"):
        save(loaded, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: atomic_files.replace(path, b"other")])
def test_a_file_may_go_while_its_model_is_used(made, path, tmp_path, change):
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(path.read_bytes())
    loaded = load(mine)
    change(mine)
    assert same(made, loaded, images())


def test_a_copy_of_a_loaded_model_has_memory_of_its_own(made, path):
    assert same(made, copy.deepcopy(load(path)), images())


MEMORY = """
import sys, torch, re
from composer import load
def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
loaded = load(sys.argv[1]); del loaded
before = anonymous()
loaded = load(sys.argv[1])
grown = anonymous() - before
mapped = [line for line in open("/proc/self/maps") if line.rstrip().endswith(sys.argv[1])]
print(grown, len(mapped), sum(b.numel() * 4 for b in loaded.buffers()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_weights_are_mapped_and_not_copied(tmp_path):
    some = cells(dict.fromkeys((f"c{n}" for n in range(24)), SPECS["wide"].model_copy(update={"hidden": 256, "V": 64})))
    big = wire(some, Composition.parallel({name: cell.name for name, cell in some.items()}))
    size = save(big, tmp_path / "big.safetensors").size
    assert size > 30 * 2**20
    done = python(MEMORY, tmp_path / "big.safetensors")
    grown, mapped, weights = map(int, done.stdout.split())
    assert weights > 0.95 * size
    assert mapped >= 1
    assert grown < size / 10


@pytest.mark.slow
def test_no_byte_of_a_file_is_run(path):
    code = """
import sys
from composer import load
heard = []
sys.addaudithook(lambda event, _: heard.append(event) if event in {"pickle.find_class", "exec", "compile", "import"} else None)
load(sys.argv[1])
print(sorted(set(heard) - {"import", "exec", "compile"}), "pickle" in str(heard))
"""
    done = python(code, path)
    assert done.stdout.split("\n")[0] == "[] False", done.stderr


def test_what_a_model_is_can_be_read_without_torch(path):
    code = """
import sys, composer
from pathlib import Path
print(len(composer.read(sys.argv[1]).cells), "torch" in sys.modules, "numpy" in sys.modules)
from composer.artifact.model.manifest import MODEL
composer.artifact.kinds.FORMS["model"].open(Path(sys.argv[1]).read_bytes(), where="x")
print("torch" in sys.modules)
"""
    done = python(code, path)
    assert done.stdout.split() == ["5", "False", "False", "False"], done.stderr


# What is not what was saved.


@pytest.mark.slow
def test_every_changed_byte_of_a_header_is_found(little):
    end = 8 + int.from_bytes(little[:8], "little")
    codes = set()
    for place in range(end):
        for bit in (place % 8, 7 - place % 8 if place % 8 != 3 else 5):
            data = bytearray(little)
            data[place] ^= 1 << bit
            codes.add(refused(bytes(data)))
    assert {"SEAL", "ST_NOT_CANONICAL", "ST_HEADER", "JSON", "SCHEMA", "NOT_A_MODEL"} <= codes


@pytest.mark.slow
def test_every_changed_byte_of_the_data_is_found(path, little):
    end, whole = 8 + int.from_bytes(little[:8], "little"), path.read_bytes()
    for place in range(end, len(little)):
        assert refused(flipped(little, place, place % 8)) == "BLOCK_DIGEST"
    draw = random.Random(0)
    for _ in range(2000):
        refused(flipped(whole, draw.randrange(len(whole)), draw.randrange(8)))


def test_a_file_that_is_shorter_or_longer_is_found(path, little):
    for size in range(len(little)):
        refused(little[:size])
    for more in (b"\0", b" " * 64, little):
        assert refused(little + more) == "ST_TAIL"
    whole, draw = path.read_bytes(), random.Random(1)
    for _ in range(100):
        refused(whole[: draw.randrange(len(whole))])


def test_data_moved_about_is_found(path):
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    draw = random.Random(2)
    for _ in range(50):
        a, b = sorted(draw.sample(range(start, len(whole)), 2))
        moved = whole[:start] + whole[b:] + whole[a:b] + whole[start:a]
        if moved != whole:
            assert refused(moved) == "BLOCK_DIGEST"


@pytest.mark.slow
def test_every_block_is_looked_at(monkeypatch, tmp_path):
    monkeypatch.setattr(block_digests, "BLOCK", 1024)
    monkeypatch.setattr(opening, "BLOCK", 1024)
    monkeypatch.setattr(block_digests, "WINDOW", 256)
    save(model(), tmp_path / "many.safetensors")
    data = (tmp_path / "many.safetensors").read_bytes()
    found = opened(data)
    assert len(found.document.blocks) == -(-len(found.data) // 1024) > 20
    start = len(data) - len(found.data)
    for block in range(len(found.document.blocks)):
        with pytest.raises(IntegrityError, match=f"in block {block}[ ;]"):
            opened(flipped(data, start + 1024 * block, 0))
    damaged = bytearray(data)
    damaged[start + 1500] ^= 1
    damaged[-1] ^= 1
    with pytest.raises(IntegrityError, match="in block 1 and 1 others"):
        opened(bytes(damaged))


def flipped(data, place, bit):
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


def refused(data):
    """The code of the error that a file gives: one about bytes, whatever it is."""
    with pytest.raises((FormatError, IntegrityError)) as caught:
        opened(data)
    return caught.value.code


def changed(path, value):
    """A change of one field of a document; the path is of keys and places."""

    def change(document):
        *within, last = path
        for key in within:
            document = document[key]
        document[last] = value(document[last]) if callable(value) else value

    return change


HOSTILE = {
    "a cell less": (lambda d: d["cells"].pop(), "SCHEMA"),
    "a cell twice": (lambda d: d["cells"].append(d["cells"][0]), "SCHEMA"),
    "a cell in a group that is not there": (changed(("cells", 0, "group"), 9), "SCHEMA"),
    "a group without a cell": (lambda d: d["groups"].append(d["groups"][0]), "SCHEMA"),
    "another spec": (changed(("groups", 0, "hidden"), 9), "ST_NOT_CANONICAL"),
    "a spec beyond all memory": (
        lambda d: d["groups"][0].update(V=4096, hidden=8192, depth=64),
        "MODEL_TOO_LARGE",
    ),
    "a spec that cannot be": (changed(("groups", 0, "heads"), 3), "SCHEMA"),
    "a relay less": (lambda d: d["relays"].popitem(), "SCHEMA"),
    "a relay of another width": (changed(("relays", "swap", "width"), 5), "SCHEMA"),
    "a map that neither turns nor reflects": (changed(("relays", "swap", "determinant"), 0), "SCHEMA"),
    "a scale that is no number": (changed(("relays", "swap", "scale"), "1"), "SCHEMA"),
    "a router less": (lambda d: d["routers"].clear(), "SCHEMA"),
    "a router of another shape": (changed(("routers", "by.router", "layers.0.weight", 0), 33), "SCHEMA"),
    "a router of no size": (changed(("routers", "by.router", "layers.0.weight", 0), 0), "SCHEMA"),
    "a name that leaves its place": (
        lambda d: d["routers"]["by.router"].update({"../x": [1]}),
        "SCHEMA",
    ),
    "a frame for fewer cells": (lambda d: d["frame"]["maps"].pop(), "SCHEMA"),
    "a frame of rows that no map was fitted on": (changed(("frame", "rows"), 36), "SCHEMA"),
    "a map fitted on other rows": (changed(("frame", "maps", 1, "paired"), 31), "SCHEMA"),
    "a frame of parts of an image": (changed(("frame", "grid"), [5, 5]), "SCHEMA"),
    "a frame on no grid": (changed(("frame", "grid"), [4]), "SCHEMA"),
    "a frame of no images": (changed(("frame", "probe"), ""), "SCHEMA"),
    "no frame": (changed(("frame",), None), "ST_NOT_CANONICAL"),
    "a block less": (lambda d: d["blocks"].pop(), "ST_TAIL"),
    "a block more": (lambda d: d["blocks"].append("0" * 64), "ST_TAIL"),
    "a digest of another form": (changed(("blocks", 0), "A" * 64), "SCHEMA"),
    "a circle": (changed(("composition", "nodes", "all", "of"), ["all", "wide"]), "COMPOSITION"),
    "an unknown node": (changed(("composition", "output"), "none"), "COMPOSITION"),
    "a newer schema": (changed(("schema_version",), "2.0"), "SCHEMA_NEWER"),
    "a field more": (lambda d: d.update(more=1), "SCHEMA"),
    "another lock": (changed(("cells", 0, "sha256"), "0" * 63), "SCHEMA"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_document_that_cannot_be_is_refused_however_well_it_is_sealed(path, name):
    change, code = HOSTILE[name]
    value = document(path.read_bytes())
    change(value)
    assert refused(with_document(path.read_bytes(), sealed(value))) == code


def test_a_document_that_was_not_sealed_is_refused(path):
    value = document(path.read_bytes())
    value["cells"][0]["version"] = "1.0.1"
    assert refused(with_document(path.read_bytes(), canonical_json.dump(value).decode())) == "SEAL"


def header_of(little, change):
    """A file whose header was changed as text."""
    size = int.from_bytes(little[:8], "little")
    return framed(change(little[8 : 8 + size].rstrip()), little[8 + size :])


HEADERS = {
    "white space": lambda text: text.replace(b'"dtype":', b'"dtype": ', 1),
    "another order": lambda text: text.replace(b'"dtype":"F32","shape"', b'"shape"', 1),
    "a tensor twice": lambda text: text[:-1] + b',"groups.0.enc_in.bias":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}',
    "a tensor more": lambda text: text[:-1] + b',"more":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}',
    "another name": lambda text: text.replace(b"groups.0.enc_in.bias", b"groups.0.enc_in.bios"),
    "another type": lambda text: text.replace(b'"F32"', b'"BF16"', 1),
    "an overlap": lambda text: re.sub(rb'"data_offsets":\[[1-9][0-9]*,', b'"data_offsets":[0,', text, count=1),
    "an offset beyond all": lambda text: text.replace(b'"data_offsets":[0,', b'"data_offsets":[18446744073709551615,'),
    "another key of metadata": lambda text: text.replace(b"batteries.model", b"batteries.other"),
    "a second key of metadata": lambda text: text.replace(b'"},"', b'","a":"b"},"', 1),
    "no document": lambda text: b'{"__metadata__":{"svae-batteries.model":{}}}',
    "a lone surrogate": lambda text: b'{"__metadata__":{"svae-batteries.model":"\\ud800"}}',
    "not UTF-8": lambda text: b'{"__metadata__":{"svae-batteries.model":"\xff"}}',
    "an open text": lambda text: b'{"__metadata__":{"svae-batteries.model":"',
    "brackets in brackets": lambda text: b'{"__metadata__":{"svae-batteries.model":' + b"[" * 100_000,
    "a long number": lambda text: b'{"__metadata__":{"svae-batteries.model":' + b"9" * 100_000,
    "nothing": lambda text: b"",
    "no JSON": lambda text: b"\x80\x04\x95 pickle",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_no_writer_makes_is_refused(little, name):
    assert header_of(little, lambda text: text) == little
    assert header_of(little, HEADERS[name]) != little
    refused(header_of(little, HEADERS[name]))


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 17 * 2**20, 2**32])
def test_a_header_beyond_the_file_or_the_limit_is_not_read(little, size):
    assert refused(size.to_bytes(8, "little") + little[8:]) == "ST_HEADER"


def test_a_header_at_the_limit_is_one_error_soon(little):
    words = json.dumps("x" * (16 * 2**20 - 4096)).encode()
    assert refused(framed(b'{"__metadata__":{"svae-batteries.model":' + words + b"}}", b"")) == "JSON"


def test_numbers_that_are_none_are_refused_even_where_they_were_sealed(path, tmp_path):
    data = path.read_bytes()
    found = opened(data)
    start = len(data) - len(found.data)
    for name, dtype, number in (
        ("groups.0.enc_in.weight", "<f4", np.nan),
        ("groups.2.dec_out.bias", "<f4", np.inf),
        ("frame.rotation", "<f8", -np.inf),
    ):
        body = bytearray(found.data)
        row = found.layout[name]
        size = np.dtype(dtype).itemsize
        body[row.end - size : row.end] = np.array([number], dtype).tobytes()
        value = document(data)
        value["blocks"] = list(block_digests.digests([memoryview(bytes(body))]))
        with pytest.raises(PolicyError) as caught:
            opened(with_document(data[:start] + body, sealed(value)))
        assert (caught.value.code, caught.value.found) == ("NON_FINITE", name)
    assert start > 0


def swap_digests(cells):
    cells[0]["tensors"], cells[2]["tensors"] = cells[2]["tensors"], cells[0]["tensors"]


def swap_places(cells):
    cells[0], cells[2] = cells[2], cells[0]


@pytest.mark.parametrize("change", [swap_digests, swap_places])
def test_a_lock_that_does_not_fit_is_found_by_looking(path, tmp_path, change):
    value = document(path.read_bytes())
    assert value["cells"][0]["group"] == value["cells"][2]["group"]
    change(value["cells"])
    data = with_document(path.read_bytes(), sealed(value))
    (tmp_path / "lock.safetensors").write_bytes(data)
    loaded = load(tmp_path / "lock.safetensors")
    for look, code in ((loaded.container.verify, "CONTAINER_CHANGED"), (lambda: opened(data), "TENSOR_DIGEST")):
        with pytest.raises(IntegrityError) as caught:
            look()
        assert caught.value.code == code
        assert sorted(caught.value.found.split(", ")) == ["noise", "photo"]


def test_another_model_than_was_promised_is_refused(path):
    seal = read(path).seal
    load(path, seal=seal)
    with pytest.raises(IntegrityError, match="OTHER_SEAL"):
        load(path, seal="0" * 64)


FORGED = {
    "a frame narrower than its cells": "SCHEMA",
    "a relay of another width": "SCHEMA",
    "a router of another shape": "SCHEMA",
    "a router of other names": "SCHEMA",
    "a relay between unequal cells": "WIRING",
}


def test_what_cannot_be_put_together_is_refused_by_whoever_reads_it(path, tmp_path):
    """Sealed well, by somebody whose maps and routers are not ours; no weight has to be looked at."""
    found = forgeries(path.read_bytes())
    assert found.keys() == FORGED.keys()
    for name, data in found.items():
        (tmp_path / "x.safetensors").write_bytes(data)
        for opener in (load, read):
            with pytest.raises(FormatError) as caught:
                opener(tmp_path / "x.safetensors")
            assert caught.value.code == FORGED[name], name


def test_the_shapes_of_a_router_are_those_of_the_module():
    for branches, channels in ((2, 1), (3, 3), (7, 4)):
        state = Router(branches, channels).state_dict()
        assert {name: tuple(tensor.shape) for name, tensor in state.items()} == router_shapes(branches, channels)


def test_tokens_are_never_cut_to_a_frame():
    wide = torch.ones(1, 2, 4)
    assert torch.equal(grids.pad(wide, 4), wide)
    assert grids.pad(wide, 6).sum() == wide.sum()
    with pytest.raises(InputError) as caught:
        grids.pad(wide, 2)
    assert (caught.value.code, caught.value.found) == ("WIDTH", 4)


# What is no model at all, and what cannot become one.


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


# The manifest beside it.


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
