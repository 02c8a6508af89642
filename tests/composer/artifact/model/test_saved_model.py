"""A composed model as one file: what was saved is what is loaded, to the last bit."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load as load_safetensors

import registry
from batteries import probe
from batteries.errors import (
    IntegrityError,
    PolicyError,
)
from batteries.io import atomic_files, canonical_json
from composer import load, read, save
from composer.artifact.kinds import FORMS
from composer.sealed import file_format as sealing
from composer.wiring.composition import Composition
from composer.wiring.nodes import Parallel, Relay
from composer.wiring.wired_model import Wired, wire
from tests.support.cells import python
from tests.support.models import (
    NODES,
    SPECS,
    cells,
    document,
    images,
    least,
    model,
    same,
)


def opened(data):
    return FORMS["model"].open(data, where="test")


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


@pytest.mark.slow
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
