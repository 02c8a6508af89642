"""Maps as one file: what was saved is what is loaded, to the last bit; and a map whose end changed is refused."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.numpy import load as load_safetensors

from batteries.errors import FormatError, IntegrityError, NotFoundError
from batteries.io import canonical_json
from composer import compose, load, pack, read, save
from composer.artifact import PackedLabel
from composer.artifact.kinds import FORMS
from composer.artifact.maps.document import SavedMaps
from composer.artifact.maps.manifest import MAPS
from composer.procrustes.consensus import Consensus
from composer.procrustes.generalized import Frame
from composer.procrustes.provenance import Pairing, digest_of
from composer.procrustes.similarity import Alignment
from tests.support.cells import python
from tests.support.maps import consensus, direct, document, masked, resealed, same, with_document
from tests.support.models import cells, images

LABEL = PackedLabel(name="small", version="1.0.0", license="Apache-2.0", description="five cells")


def refused(data, kind=(FormatError, IntegrityError)):
    """The code of the error that a file gives."""
    with pytest.raises(kind) as caught:
        FORMS["maps"].open(data, where="test")
    return caught.value.code


MAPS_OF = {
    "a consensus": lambda of, found: found,
    "a consensus of rows of M": lambda of, found: consensus(of.cells("noise", "photo", "low"), "rows"),
    "a consensus without some rows": lambda of, found: masked(found),
    "a part of a consensus": lambda of, found: found.of([3, 1]),
    "a consensus of one": lambda of, found: consensus(of.cells("wide")),
    "a map that pads": lambda of, found: direct(of),
    "a map that pads the other end": lambda of, found: direct(of, "wide", "noise"),
    "a map that whitens": lambda of, found: direct(of, whiten=True),
    "a map that projects": lambda of, found: direct(of, unequal="project"),
    "a map of no scale and no reflection": lambda of, found: direct(of, scale=False, reflection="forbidden"),
    "a map through the frame": lambda of, found: found.maps[0].then(found.maps[3].inverse()),
    "a map onto itself": lambda of, found: direct(of, "low", "low"),
}


@pytest.mark.parametrize("name", MAPS_OF)
def test_what_is_loaded_is_what_was_saved_to_the_last_bit(of, found, tmp_path, name):
    maps, path = MAPS_OF[name](of, found), tmp_path / "x.safetensors"
    facts = save(maps, path, lock=of.lock)
    loaded = load(path)
    assert same(loaded, maps)
    assert (facts.size, facts.sha256, facts.seal) == (
        path.stat().st_size,
        canonical_json.sha256(path.read_bytes()),
        read(path).seal,
    )
    save(loaded, tmp_path / "again.safetensors", lock=read(path).lock)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    one = loaded.maps[0] if isinstance(loaded, Consensus) else loaded
    tokens = torch.randn(5, one.rotation.shape[0] - one.padded[0])
    assert torch.equal(one(tokens), (maps.maps[0] if isinstance(maps, Consensus) else maps)(tokens))


def test_what_differs_is_told_apart(of, found):
    for first, second in (
        (found, found.of([0, 1])),
        (found, masked(found)),
        (direct(of), direct(of, whiten=True)),
        (direct(of), dataclasses.replace(direct(of), scale=torch.tensor(2.0, dtype=torch.float64))),
        (found, dataclasses.replace(found, probe="0" * 64)),
    ):
        assert same(first, first)
        assert not same(first, second)


def test_a_document_names_both_ends_of_every_map(of, found, path, little):
    said = read(path)
    assert (said.tokens, said.grid, said.probe) == ("omega", found.grid, digest_of(images()))
    assert (said.target.kind, said.target.rows, said.target.width) == ("frame", 32, 8)
    assert said.lock == of.lock
    assert [one.source.name for one in said.maps] == list(of.names)
    assert [one.widths for one in said.maps] == [(4, 8), (8, 8), (4, 8), (4, 8), (4, 8)]
    assert len(said.scores) == 5
    one = SavedMaps.model_validate_json(canonical_json.dump(document(little)))
    assert (one.maps[0].source.digests, one.target.digests) == (of.lock["noise"], of.lock["low"])
    assert one.lock == {name: of.lock[name] for name in ("noise", "low")}


def test_the_formats_own_reader_reads_it(found, path):
    arrays = load_safetensors(path.read_bytes())
    assert np.array_equal(arrays["frame.tokens"], found.frame.tokens.numpy())
    assert arrays["frame.rows"].dtype == bool
    assert np.array_equal(arrays["maps.1.rotation"], found.maps[1].rotation.numpy())
    assert len(arrays) == 2 + 3 * 5


@pytest.mark.slow
def test_the_same_maps_give_the_same_bytes_in_every_process(tmp_path):
    code = """
import sys
from composer import save
from tests.support.maps import container, direct
of = container()
save(direct(of, whiten=True), sys.argv[1], lock=of.lock)
"""
    for seed in ("1", "2"):
        done = python(code, tmp_path / f"{seed}.safetensors", PYTHONHASHSEED=seed, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()


def test_loaded_maps_have_memory_of_their_own(path, tmp_path):
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(path.read_bytes())
    loaded = load(mine)
    mine.write_bytes(b"")
    loaded.frame.tokens.zero_()
    assert same(load(path).maps, loaded.maps)


@pytest.mark.slow
def test_what_maps_are_can_be_read_without_torch(path):
    code = """
import sys, composer
from pathlib import Path
from composer.artifact.maps.manifest import MAPS
print(len(composer.read(sys.argv[1]).maps), "torch" in sys.modules, "numpy" in sys.modules)
composer.artifact.kinds.FORMS["maps"].open(Path(sys.argv[1]).read_bytes(), where="x")
print("torch" in sys.modules)
"""
    done = python(code, path)
    assert done.stdout.split() == ["5", "False", "False", "False"], done.stderr


@pytest.mark.slow
def test_a_thousand_cells_of_sixteen_dimensions_fit(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(24_576, 16, dtype=torch.float64, generator=generator)
    names = tuple(f"low/cell-{number}" for number in range(1000))
    end, pairing = canonical_json.sha256(b"x"), Pairing("omega", (4, 4), "0" * 64, "0" * 64, digest_of(tokens))
    turn = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64, generator=generator))[0]
    one = Alignment(
        turn, torch.tensor(1.0), tokens[0], tokens[1], torch.tensor(0.5), torch.linalg.det(turn).round(), torch.tensor(24_576)
    )
    maps = tuple(dataclasses.replace(one, pairing=dataclasses.replace(pairing, source=end)) for _ in names)
    big = Consensus(names, maps, Frame(tokens, torch.ones(24_576, dtype=torch.bool), 0.1), (), "omega", (4, 4), "0" * 64)
    lock = {name: {"cell": name, "version": "1.0.0", "sha256": end, "tensors": end} for name in names}
    manifest = pack(big, tmp_path / "big.safetensors", LABEL, lock=lock)
    assert manifest.file.size < MAPS.limit / 4
    assert (tmp_path / "big.json").stat().st_size < 64 * 2**10
    assert len(load(tmp_path / "big.safetensors").maps) == 1000


def test_maps_are_used_by_the_cells_that_they_were_fitted_on_and_by_no_others(found, path):
    made, loaded = cells(), load(path)
    model = compose(made, maps=loaded)
    assert torch.equal(model(images())["low"].aligned, compose(made, probe=images())(images())["low"].aligned)
    made["low"] = cells({"low": made["low"].spec, "x": made["low"].spec})["x"]
    with pytest.raises(IntegrityError) as caught:
        compose(made, maps=loaded)
    assert (caught.value.code, caught.value.exit_code, caught.value.where) == ("END_CHANGED", 4, "low")
    with pytest.raises(NotFoundError, match="NO_MAP"):
        compose({"another": made["low"]}, maps=loaded)


def test_a_direct_map_keeps_its_ends(of, little, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(little)
    pairing = load(tmp_path / "x.safetensors").pairing
    pairing.check(source=of.ends["noise"], target=of.ends["low"])
    for ends in ({"source": of.ends["low"]}, {"target": of.ends["noise"]}):
        with pytest.raises(IntegrityError, match="END_CHANGED"):
            pairing.check(**ends)


DIGESTS = [("maps", 0, "source", "tensors"), ("maps", 0, "source", "sha256"), ("target", "tensors"), ("probe",)]


@pytest.mark.parametrize("place", DIGESTS)
def test_digests_that_somebody_altered_break_the_seal(little, place):
    value = document(little)
    *within, last = place
    inner = value
    for key in within:
        inner = inner[key]
    inner[last] = "0" * 64
    assert refused(with_document(little, canonical_json.dump(value).decode()), IntegrityError) == "SEAL"
    with pytest.raises(IntegrityError, match="OTHER_SEAL"):
        FORMS["maps"].open(with_document(little, resealed(value)), where="test", seal=document(little)["seal"])
