"""Related cells: found by signatures that no rotation changes, and aligned in a number that grows with the cells."""

import numpy as np
import pytest
import torch

from batteries.cell.spec import CellSpec
from batteries.kept_documents import KeptDocuments
from composer import procrustes
from registry.site import related as module
from registry.site.related import CANDIDATES, RELATED, related
from registry.site.signatures import IMAGES, Tokens, comparable, tokens_of
from tests.support.cells import from_model, tiny, turned
from tests.support.models import FINE, WIDE
from tests.support.sites import contents_of


def drawn(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(width, seed):
    return torch.linalg.qr(drawn((width, width), seed))[0]


def entries(count, **yanked):
    return contents_of(*[tiny(f"c{n:03}", seed=n) for n in range(count)], **yanked).cells


def tokens(cells, own):
    return {entry.reference: {"noise16-64": one} for entry, one in zip(cells, own, strict=True)}


def random(cells, regions=1, width=4):
    return [drawn((IMAGES, regions, width), seed) for seed, _ in enumerate(cells)]


def test_a_rotated_copy_is_the_closest_and_its_residual_is_nothing():
    cells = entries(20)
    own = random(cells, 4, 6)
    own[7] = 3 * own[2] @ rotation(6, 99) + 1
    found = related(tokens(cells, own), cells)
    first = found[cells[2].reference][0]
    assert (first.entry, first.residual, first.probe) == (cells[7], 0.0, "noise16-64")
    assert first.exchanged > 0.5
    assert found[cells[7].reference][0].entry is cells[2]
    for rows in found.values():
        assert len(rows) == RELATED
        assert [row.residual for row in rows] == sorted(row.residual for row in rows)


def test_the_residual_is_that_of_the_alignment():
    cells = entries(3)
    own = random(cells, 4, 6)
    for row in related(tokens(cells, own), cells)[cells[0].reference]:
        fit = procrustes.fit(own[0].flatten(0, 1), own[cells.index(row.entry)].flatten(0, 1))
        assert row.residual == pytest.approx(float(fit.residual), abs=6e-5)


def test_alignments_grow_with_the_cells_and_not_with_their_pairs(monkeypatch):
    fitted = []
    fit = procrustes.fit
    monkeypatch.setattr(module.procrustes, "fit", lambda one, other: (fitted.append(len(one)), fit(one, other))[1])
    for count in (30, 60):
        cells = entries(count)
        fitted.clear()
        related(tokens(cells, random(cells)), cells)
        assert sum(fitted) == count * (CANDIDATES + RELATED * len(module.SHIFTS))


def test_a_cell_is_related_to_newest_versions_of_other_names_alone():
    cells = [tiny("a"), tiny("a", "2.0.0", seed=1), tiny("b", seed=2), tiny("b", "2.0.0", seed=3), tiny("c", seed=4)]
    found = contents_of(*cells, yanked={"high/c@1.0.0": "wrong"}).cells
    rows = related(tokens(found, random(found)), found)
    names = {reference: [row.entry.reference for row in some] for reference, some in rows.items()}
    assert names["high/a@1.0.0"] == names["high/a@2.0.0"] == ["high/b@2.0.0"]
    assert sorted(names["high/c@1.0.0"]) == ["high/a@2.0.0", "high/b@2.0.0"]


def test_photographs_are_compared_on_photographs_and_other_pairs_on_noise():
    cells = entries(3)
    own = {entry.reference: {"noise16-64": drawn((IMAGES, 1, 4), seed)} for seed, entry in enumerate(cells)}
    for seed, entry in enumerate(cells[:2]):
        own[entry.reference]["photos-64"] = drawn((IMAGES, 1, 4), 10 + seed)
    probes = {row.entry.reference: row.probe for row in related(own, cells)[cells[0].reference]}
    assert probes == {cells[1].reference: "photos-64", cells[2].reference: "noise16-64"}


def test_cells_without_tokens_and_of_other_shapes_are_not_compared():
    cells = entries(4)
    own = tokens(cells, random(cells))
    own[cells[0].reference] = {}
    own[cells[1].reference] = {"noise16-64": drawn((IMAGES, 4, 4), 9)}
    found = related(own, cells)
    assert found[cells[0].reference] == found[cells[1].reference] == []
    assert [row.entry for row in found[cells[2].reference]] == [cells[3]]


def test_a_turned_cell_has_the_same_tokens_which_are_kept(tmp_path):
    cell = from_model(FINE, 0, "fine")
    other = turned(cell, "turned", rotation(4, 1).numpy().astype(np.float64))
    contents = contents_of(cell, other, from_model(FINE, 1, "else"), from_model(WIDE, 2, "wide", band="mid"))
    kept = KeptDocuments(tmp_path)
    own = {entry.reference: tokens_of(contents, entry, kept) for entry in contents.cells}
    assert own["high/fine@1.0.0"]["noise16-64"].shape == (IMAGES, 16, 4)
    found = related(own, contents.cells)
    assert found["high/fine@1.0.0"][0].entry.reference == "high/turned@1.0.0"
    assert found["high/fine@1.0.0"][0].residual == pytest.approx(0, abs=1e-3)
    assert found["mid/wide@1.0.0"] == []
    contents.cell = None  # not read again
    again = {entry.reference: tokens_of(contents, entry, kept) for entry in contents.cells}
    assert all(torch.equal(own[name]["noise16-64"], again[name]["noise16-64"]) for name in own)


def test_cells_that_cannot_be_compared_say_why(tmp_path):
    assert "channels" in comparable(tiny().manifest)

    def reason(**spec):
        return comparable(tiny().manifest.model_copy(update={"spec": CellSpec(V=8, hidden=4, **spec)}))

    assert "do not divide" in reason(D=4, patch_size=24)
    assert "too few patches" in reason(D=16, patch_size=64)
    assert reason(D=4, patch_size=16) is None
    dead = from_model(FINE, 0, "dead")
    weights = {name: np.zeros_like(values) if name.startswith("enc_") else values for name, values in dead.weights.items()}
    contents = contents_of(dead)
    contents.cell = lambda entry: type(dead)(weights, dead.manifest)
    assert tokens_of(contents, contents.cells[0], KeptDocuments(tmp_path)) == {}


def test_tokens_are_kept_to_the_bit():
    own = drawn((2, 3, 4), 0).float()
    assert torch.equal(Tokens.of(own).tensor, own.double())
