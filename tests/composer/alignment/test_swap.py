"""The swap score: a cell's own tokens give its own error, what is planted is recovered, and what carries nothing is said."""

import math

import pytest
import torch

import batteries
import registry
from batteries import CellSpec
from batteries.errors import InputError, NotFoundError
from composer import compose, swap
from composer.alignment import Swap
from composer.alignment.relay import fit, paired
from tests.composer.procrustes.test_procrustes import rotation
from tests.support.cells import from_model, turned

SPEC = CellSpec(V=16, D=4, patch_size=8, hidden=16)
FINE = CellSpec(V=16, D=4, patch_size=4, hidden=8)
WIDE = CellSpec(V=16, D=8, patch_size=8, hidden=16)
KINDS = ("omega", "rows")


def images(count=12, seed=0, size=16):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def made(**changes):
    errors = {"own": 1.0, "mean": 5.0, "mapped": 2.0, "shuffled": 6.0} | changes
    spread = torch.linspace(0.9, 1.1, 40, dtype=torch.float64)
    return Swap("a", "b", "omega", {name: value * spread for name, value in errors.items()}, torch.arange(40) // 2)


def test_the_share_that_is_recovered():
    found = made()
    assert found.worth == pytest.approx(5)
    assert found.share() == pytest.approx(0.75)
    assert found.share("shuffled") == pytest.approx(-0.25)
    assert (found.share("own"), found.share("mean")) == (1, 0)
    assert found.bounds == pytest.approx((0.75, 0.75))  # it is the same in every image
    assert found.carries
    assert found.statement == (
        "the mean of b's omega in their own place costs 400.00% of its error, "
        "of which those of a, mapped, recover 0.750 (0.750 to 0.750)"
    )


def test_bounds_are_by_cluster():
    """Errors that clusters have in common vary more than as many of single images."""
    noise = torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64).repeat_interleave(8).abs()
    errors = {"own": torch.ones(160).double(), "mean": torch.full((160,), 5.0).double(), "mapped": 1 + noise}
    widths = []
    for cluster in (torch.arange(160), torch.arange(160) // 8):
        low, high = Swap("a", "b", "omega", errors, cluster).bounds
        assert low < Swap("a", "b", "omega", errors, cluster).share() < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(8**0.5 * widths[0], rel=0.2)


@pytest.mark.parametrize("mean", [1.0, 1.01, 0.9])
def test_tokens_that_carry_nothing_are_said_to(mean):
    found = made(mean=mean)
    assert not found.carries
    assert "almost nothing" in found.statement
    assert math.isnan(found.share()) == (mean <= 1)
    assert (found.bounds == (-math.inf, math.inf)) == (mean <= 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cells_own_tokens_give_its_own_error_and_recover_it(kind):
    cells = dict(zip("ab", registry.pull("high/johanna-64-s1", "high/johanna-64-s2"), strict=True))
    probe = batteries.probe("photos-64")
    container, some, clusters = compose(cells), probe.images[:24], probe.cluster[:24]
    own = container(some)["b"].patch_error.mean(dim=1)
    found, itself = (swap(container, source, "b", some, tokens=kind, clusters=clusters) for source in "ab")
    for one in (found, itself):
        assert one.errors["own"].float().tolist() == pytest.approx(own.tolist(), rel=1e-3)
    assert itself.share() == pytest.approx(1, abs=1e-3)
    assert found.share() < 0.9
    assert itself.share("shuffled") < 0.5


def test_a_turned_cell_is_as_good_as_the_cell_itself():
    """The same cell in another frame of its row space: omega is the same, and rows are, once they are turned back."""
    one = from_model(SPEC, 0, "one")
    container = compose({"one": one, "other": turned(one, "other", rotation(4, 1).numpy())}, dtype=torch.float64)
    for kind in KINDS:
        found = swap(container, "one", "other", images(), tokens=kind)
        assert torch.allclose(found.errors["mapped"], found.errors["own"], rtol=1e-5)


def test_maps_are_of_the_other_half_and_clusters_stay_together():
    container, x = (
        compose({"a": from_model(SPEC, 0, "a"), "b": from_model(SPEC, 1, "b")}, dtype=torch.float64),
        images(12).double(),
    )
    clusters = torch.tensor([7, 7, 3, 3, 9, 9, 7, 7, 4, 4, 4, 4])
    out = container(x, ("M", "omega"))
    learned = torch.isin(clusters, torch.tensor([3, 7]))  # every other label, in their order
    found = swap(container, "a", "b", x, clusters=clusters)
    for half in (learned, ~learned):
        picked = container(x[half], ("M", "omega"))
        fitted = fit("omega", picked["a"], picked["b"])
        mapped = fitted(paired("omega", out["a"], out["b"].grid))[~half]
        recon = container.decode("b", out["b"].M[~half], out["b"].grid, mapped)
        wanted = (recon - x[~half]).square().mean(dim=(1, 2, 3))
        assert torch.allclose(found.errors["mapped"][~half], wanted)


@pytest.mark.parametrize(("source", "target"), [("fine", "coarse"), ("coarse", "fine"), ("wide", "coarse"), ("coarse", "wide")])
def test_cells_of_other_grids_and_widths(source, target):
    specs = {"fine": FINE, "coarse": SPEC, "wide": WIDE}
    container = compose({name: from_model(spec, 0, name) for name, spec in specs.items()})
    found = swap(container, source, target, images())
    assert all(bool(error.isfinite().all()) for error in found.errors.values())


def test_one_seed_gives_one_score():
    container = compose({"a": from_model(SPEC, 0, "a"), "b": from_model(SPEC, 1, "b")})
    first, again, other = (swap(container, "a", "b", images(), seed=seed).errors for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.equal(first["mapped"], other["mapped"])
    assert not torch.equal(first["shuffled"], other["shuffled"])


def test_what_cannot_be_swapped_is_named():
    specs = {"a": SPEC, "b": SPEC, "odd": SPEC.model_copy(update={"V": 12}), "third": SPEC.model_copy(update={"patch_size": 6})}
    container = compose({name: from_model(spec, 0, name) for name, spec in specs.items()})
    x = images(size=24)
    for code, source, how in (
        ("TOKENS", "a", {"tokens": "moment"}),
        ("FEW_IMAGES", "a", {"images": x[:3]}),
        ("FEW_IMAGES", "a", {"clusters": torch.arange(12) // 4}),
        ("CLUSTERS", "a", {"clusters": torch.arange(11)}),
        ("CLUSTERS", "a", {"clusters": torch.rand(12)}),
        ("PAIRS", "odd", {"tokens": "rows"}),
        ("GRIDS", "third", {}),
        ("CONSTANT", "a", {"images": torch.zeros_like(x)}),
        ("IMAGE_SHAPE", "a", {"images": None}),
    ):
        with pytest.raises(InputError) as caught:
            swap(container, source, "b", **{"images": x, **how})
        assert caught.value.code == code
    with pytest.raises(NotFoundError, match="NO_CELL"):
        swap(container, "none", "b", x)


@pytest.mark.parametrize("readout", ["linear", "none", "narrow"])
def test_a_target_without_singular_values_takes_rows_and_no_omega(readout):
    target = from_model(SPEC.model_copy(update={"readout": readout}), 1, "target")
    model = compose({"svd": from_model(SPEC, 0, "source"), readout: target})
    with pytest.raises(InputError, match="does not read omega") as caught:
        swap(model, "svd", readout, images())
    assert (caught.value.code, caught.value.where) == ("OMEGA", readout)
    assert swap(model, "svd", readout, images(), tokens="rows").error("own") > 0
    assert swap(model, readout, "svd", images()).error("mapped") > 0
