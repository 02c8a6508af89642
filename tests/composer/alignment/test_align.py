"""The tokens of a container's cells brought together: what was planted is found, and what cannot be aligned is named."""

import dataclasses

import pytest
import torch

from batteries import CellSpec
from batteries.errors import ConflictError, InputError, IntegrityError, NotFoundError, PolicyError
from composer import align, compose, join, load, save
from composer.alignment.tokens import TAPPED, width_of
from composer.grids import pad
from composer.procrustes import FewSamplesWarning, change, generalised
from composer.procrustes.provenance import digest_of
from tests.composer.procrustes.test_procrustes import draw, rotation
from tests.support.cells import from_model, turned

SPEC = CellSpec(V=16, D=4, patch_size=8, hidden=16)
FINE = CellSpec(V=12, D=4, patch_size=4, hidden=8)
WIDE = CellSpec(V=16, D=8, patch_size=8, hidden=16)
KINDS = tuple(TAPPED)
TURNING = ("moment", "frames", "rows")  # what the row space's frame is seen in


def images(count=12, seed=0, size=16):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def cells(**specs):
    return {name: from_model(spec, seed, name) for seed, (name, spec) in enumerate(specs.items())}


def twins(seed=0):
    """A cell, and the same in another frame of its row space."""
    one = from_model(SPEC, seed, "one")
    return {"one": one, "other": turned(one, "other", rotation(4, seed + 1, reflect=True).numpy())}


@pytest.mark.parametrize("kind", KINDS)
def test_a_turned_row_space_is_found_in_every_kind_of_token(kind):
    model, probe = compose(twins(), dtype=torch.float64), images(40)
    found = align(model, probe, tokens=kind)
    assert (found.kind, found.grid, found.probe) == (kind, (2, 2), digest_of(probe))
    assert found.width == width_of(SPEC, kind)
    assert all(float(one.residual) < 1e-8 for one in found.maps)
    assert all(score.r2 > 1 - 1e-6 and score.related() for score in found.scores)
    between = found.maps[0].then(found.maps[1].inverse())
    assert (between.pairing.source, between.pairing.target) == tuple(model.ends.values())
    out = model(probe, ("M", "omega"))
    if kind == "rows":
        assert torch.allclose(between.matrix, rotation(4, 1, reflect=True), atol=1e-4)
    if kind in TURNING:
        assert not torch.allclose(out["one"].M, out["other"].M, atol=0.1)
    else:
        assert torch.allclose(out["one"].omega, out["other"].omega, atol=1e-5), "lengths do not see it"


@pytest.mark.parametrize("kind", KINDS)
def test_unlike_cells_meet_on_the_coarsest_grid(kind):
    made = cells(a=SPEC, b=FINE.model_copy(update={"V": 16})) if kind == "rows" else cells(a=SPEC, b=WIDE, c=FINE)
    found = align(compose(made), images(100 if kind in ("moment", "frames") else 12), tokens=kind)
    assert found.grid == (2, 2)
    assert found.width == max(width_of(cell.spec, kind) for cell in made.values())
    assert [one.padded for one in found.maps] == [(found.width - width_of(cell.spec, kind), 0) for cell in made.values()]


def test_cells_of_other_grids_are_named_where_one_grid_is_asked_for():
    model = compose(cells(a=SPEC, b=WIDE, fine=FINE))
    with pytest.raises(InputError) as caught:
        align(model, images(), grid="exact")
    assert (caught.value.code, caught.value.found) == ("GRIDS", "fine 4 x 4")
    assert "container.cells" in caught.value.remedy
    assert align(model.cells("a", "b"), images(), grid="exact").grid == (2, 2)


@pytest.mark.slow
def test_a_container_maps_its_omega_into_the_frame():
    x = images()
    model = compose(cells(a=WIDE, b=WIDE, c=FINE), probe=x)
    again = compose(cells(a=WIDE, b=WIDE, c=FINE), probe=x)
    assert (model.consensus.width, model.consensus.regions) == (8, 4)
    assert [s.r2 for s in model.consensus.scores] == [s.r2 for s in again.consensus.scores]
    out = model(x[:2])
    assert [tuple(t.shape) for t in out.omega] == [(2, 4, 8), (2, 4, 8), (2, 16, 8)]
    assert torch.equal(out["c"].aligned, model.consensus.maps[2](pad(out["c"].omega, 8)))
    assert compose(cells(a=WIDE), probe=x[:2]).consensus.scores == ()


# Maps that were made before.


def test_saved_maps_are_used_without_a_probe():
    made, x = cells(a=WIDE, b=WIDE, c=FINE), images()
    first = compose(made, probe=x)
    again = compose(made, maps=first.consensus)
    assert all(torch.equal(one, other) for one, other in zip(first(x).omega, again(x).omega, strict=True))
    part = compose({"renamed": made["c"], "b": made["b"]}, maps=first.consensus)
    assert part.consensus.names == ("renamed", "b")
    assert part.consensus.maps == (first.consensus.maps[2], first.consensus.maps[1])
    assert torch.equal(part(x)["renamed"].aligned, first(x)["c"].aligned)
    with pytest.raises(InputError) as caught:
        compose(made, probe=x, maps=first.consensus)
    assert caught.value.code == "PROBE_AND_MAPS"


def test_a_cell_that_changed_is_refused_and_so_is_one_that_was_not_aligned():
    made = cells(a=WIDE, b=WIDE)
    maps = compose(made, probe=images()).consensus
    with pytest.raises(IntegrityError) as changed:
        compose({**made, "b": from_model(WIDE, 9, "b")}, maps=maps)
    assert (changed.value.code, changed.value.where) == ("END_CHANGED", "b")
    with pytest.raises(NotFoundError) as missing:
        compose({**made, "c": from_model(WIDE, 9, "c")}, maps=maps)
    assert (missing.value.code, missing.value.found) == ("NO_MAP", "c")
    assert "composer.join" in missing.value.remedy


def test_a_container_takes_maps_of_its_own_omega_only():
    made, x = cells(a=SPEC, b=SPEC), images(40)
    model = compose(made)
    for kind in ("S", "moment"):
        with pytest.raises(PolicyError) as caught:
            model.consensus = align(model, x, tokens=kind)
        assert caught.value.code == "TOKENS"
        with pytest.raises(PolicyError, match="TOKENS"):
            compose(made, maps=align(model, x, tokens=kind))
    found = align(model, x)
    with pytest.raises(PolicyError) as caught:
        model.consensus = found.of([1, 0])
    assert caught.value.code == "OTHER_CELLS"
    with pytest.raises(IntegrityError) as changed:
        compose({**made, "a": from_model(SPEC, 9, "a")}).consensus = found
    assert (changed.value.code, changed.value.where) == ("END_CHANGED", "a")
    assert model.consensus is None
    model.consensus = found
    assert model.consensus is found
    model.consensus = None


# Cells that join.


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["omega", "moment"])
def test_a_new_cell_joins_and_nothing_else_moves(kind):
    made, x = cells(a=WIDE, b=WIDE, c=FINE, d=WIDE), images(100)
    before = align(compose({name: made[name] for name in "abc"}), x, tokens=kind)
    kept = [one.matrix.clone() for one in before.maps]
    after = join(before, compose({"d": made["d"]}), x)
    assert after.names == ("a", "b", "c", "d")
    assert after.frame is before.frame
    assert all(one is other for one, other in zip(after.maps[:3], before.maps, strict=True))
    assert all(torch.equal(one.matrix, other) for one, other in zip(after.maps, kept, strict=False))
    assert after.pairings[3].source == made["d"].manifest.file.tensor_digest
    assert len(after.scores) == 4
    whole = align(compose(made), x, tokens=kind)
    assert 0 < change(before.frame, whole.frame) < 0.5
    if kind == "omega":
        model = compose(made, maps=after)
        assert model(x)["d"].aligned.shape == (100, 4, 8)


def test_a_new_cell_joins_the_frame_of_a_saved_model(tmp_path):
    made, x = cells(a=WIDE, b=FINE, late=FINE), images()
    model = compose({name: made[name] for name in "ab"}, probe=x)
    save(model, tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors").container
    late = compose({"late": made["late"]})
    ours, theirs = join(loaded.consensus, late, x), join(model.consensus, late, x)
    assert torch.equal(ours.maps[2].matrix, theirs.maps[2].matrix)
    assert ours.scores == theirs.scores
    assert ours.maps[1].padded == theirs.maps[1].padded == (4, 0)
    assert ours.pairings == theirs.pairings


def test_who_joins_is_seen_on_the_same_images():
    made, x = cells(a=SPEC, b=SPEC, c=SPEC, wide=WIDE), images()
    before = align(compose({"a": made["a"], "b": made["b"]}), x)
    with pytest.raises(IntegrityError) as other:
        join(before, compose({"c": made["c"]}), images(seed=1))
    assert other.value.code == "OTHER_PROBE"
    with pytest.raises(ConflictError, match="TWICE"):
        join(before, compose({"a": made["c"]}), x)
    with pytest.raises(InputError) as wider:
        join(before, compose({"wide": made["wide"]}), x)
    assert wider.value.code == "WIDER"
    fine = align(compose(cells(a=FINE, b=FINE)), x)
    with pytest.raises(InputError) as coarse:
        join(fine, compose({"c": made["c"]}), x)
    assert coarse.value.code == "GRIDS"


def test_a_model_whose_frame_is_not_that_of_its_maps_is_not_saved(tmp_path):
    model = compose(cells(a=SPEC, b=SPEC), probe=images())
    moved = dataclasses.replace(model.consensus.frame, tokens=model.consensus.frame.tokens + 1)
    model.consensus = dataclasses.replace(model.consensus, frame=moved)
    with pytest.raises(IntegrityError) as caught:
        save(model, tmp_path / "moved.safetensors")
    assert caught.value.code == "END_CHANGED"
    tokens = [draw(48, 4), draw(48, 4)]
    rows = torch.ones(2, 48).index_fill(1, torch.tensor(3), 0)
    gaps = dataclasses.replace(compose(cells(a=SPEC, b=SPEC), probe=images()).consensus, frame=generalised(tokens, rows))
    target = digest_of(gaps.frame.tokens)
    ends = [dataclasses.replace(one, pairing=dataclasses.replace(one.pairing, target=target)) for one in gaps.maps]
    model.consensus = dataclasses.replace(gaps, maps=tuple(ends))
    with pytest.raises(InputError) as caught:
        save(model, tmp_path / "gaps.safetensors")
    assert caught.value.code == "PARTS"
    assert list(tmp_path.iterdir()) == []


# What cannot be aligned.


@pytest.mark.parametrize("kind", KINDS)
def test_constant_tokens_are_refused(kind):
    model, blank = compose(cells(a=SPEC, b=SPEC)), torch.zeros(8, 3, 16, 16)
    if kind == "rows":  # which differ from each other, if not from image to image: shuffled images do as well
        assert [score.p_value for score in align(model, blank, tokens=kind).scores] == [1, 1]
        return
    with pytest.raises(InputError) as caught:
        align(model, blank, tokens=kind)
    assert caught.value.code == "CONSTANT"


def test_bad_input_is_told_by_name():
    model = compose(cells(a=SPEC, b=SPEC))
    holes = images().index_fill(0, torch.tensor(1), torch.nan)
    for code, given, how in (
        ("TOKENS", images(), {"tokens": "U"}),
        ("TOKENS", images(), {"tokens": None}),
        ("GRIDS", images(), {"grid": "finest"}),
        ("FEW_IMAGES", images(1), {}),
        ("NOT_FINITE", holes, {}),
        ("NOT_FINITE", holes, {"tokens": "moment"}),
        ("IMAGE_SHAPE", None, {}),
        ("IMAGE_SHAPE", images()[:, :1], {}),
    ):
        with pytest.raises(InputError) as caught:
            align(model, given, **how)
        assert caught.value.code == code
    with pytest.raises(InputError) as caught:
        join(align(model, images()), model, None)
    assert caught.value.code == "IMAGE_SHAPE"
    with pytest.raises(InputError) as caught:
        align(compose(cells(a=SPEC, b=SPEC.model_copy(update={"patch_size": 3}))), images(size=24))
    assert caught.value.code == "GRIDS"


def test_rows_pair_only_where_there_are_as_many():
    odd = SPEC.model_copy(update={"V": 12})
    with pytest.raises(InputError) as caught:
        align(compose(cells(a=SPEC, b=SPEC, odd=odd)), images(), tokens="rows")
    assert (caught.value.code, caught.value.found) == ("ROWS", "odd 48")
    before = align(compose(cells(a=SPEC, b=SPEC)), images(), tokens="rows")
    with pytest.raises(InputError) as caught:
        join(before, compose(cells(odd=odd)), images())
    assert caught.value.code == "ROWS"
    assert align(compose(cells(a=SPEC, odd=odd)), images(40), tokens="moment").width == 10


def test_fewer_regions_than_dimensions_are_warned_of():
    with pytest.warns(FewSamplesWarning):
        align(compose(cells(a=WIDE, b=WIDE)), images(8), tokens="moment")  # 32 rows of 36 dimensions
