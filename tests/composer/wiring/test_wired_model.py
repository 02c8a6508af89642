"""Wired compositions: each kind of node, what they are made of, what they keep, what they refuse."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional as F

from batteries import CellSpec
from batteries.errors import BatteriesError, IntegrityError, NotFoundError
from composer import Composition, align, compose, procrustes
from composer.alignment.relay import fit, paired, relay
from composer.container.extra_state import decoded
from composer.container.outputs import TAPS
from composer.grids import pool
from composer.wiring.route import Router, route
from composer.wiring.wired_model import Together, Wired, wire
from tests.support.cells import from_model

LOW = CellSpec(V=16, D=8, patch_size=8, hidden=16)
FINE = CellSpec(V=12, D=8, patch_size=4, hidden=8, cross_layers=2)
NARROW = CellSpec(V=12, D=4, patch_size=4, hidden=8)
ODD = CellSpec(V=12, D=8, patch_size=6, hidden=8)
SPECS = {"a": LOW, "b": LOW, "c": LOW, "fine": FINE, "narrow": NARROW, "odd": ODD}

RELAY = {"kind": "relay", "source": "a", "target": "b"}
ROUTE = {"kind": "route", "of": ["a", "b"]}
NESTED = {
    "swap": {**RELAY, "tokens": "rows"},
    "down": {"kind": "relay", "source": "fine", "target": "b"},
    "low": {"kind": "route", "of": ["swap", "a", "fine"]},
    "learned.one": {"kind": "route", "of": ["down", "b"], "by": "router"},
    "inner": {"kind": "parallel", "of": ["learned.one", "c"]},
    "out": {"kind": "parallel", "of": ["low", "inner", "swap"]},
}


@pytest.fixture(scope="module")
def cells():
    return {name: from_model(spec, seed, name, band="mid") for seed, (name, spec) in enumerate(SPECS.items())}


@pytest.fixture(scope="module")
def made(cells):
    """Wired compositions by their nodes, around exactly the cells that these read."""

    def make(nodes, probe=None, output="out", **more):
        return wire(*parts(cells, nodes, output), images(6) if probe is None else probe, **more)

    return make


def parts(cells, nodes, output="out"):
    read = {name for node in nodes.values() for name in (*node.get("of", ()), node.get("source"), node.get("target"))}
    chosen = {name: cell for name, cell in cells.items() if name in read | {output}}
    references = {name: cell.name for name, cell in chosen.items()}
    return chosen, Composition.model_validate({"schema_version": "1.0", "output": output, "cells": references, "nodes": nodes})


def images(n=3, size=(16, 32), seed=0):
    return torch.randn(n, 3, *size, generator=torch.Generator().manual_seed(seed))


@dataclass
class Hand:
    """A branch made by hand: a plane of one value, and its errors."""

    value: float
    patch_error: torch.Tensor
    grid: tuple[int, int] = (1, 2)

    @property
    def recon(self):
        plane = torch.full((len(self.patch_error), 3, 2, 4), self.value)
        bad = ~self.patch_error.isfinite().unflatten(1, self.grid)[:, None]
        return plane.masked_fill(bad.repeat_interleave(2, 2).repeat_interleave(4 // self.grid[1], 3), torch.nan)


def test_a_parallel_is_the_container(cells, made):
    model, x = made({"out": {"kind": "parallel", "of": ["narrow", "a", "b"]}}), images()
    alone = compose({name: cells[name] for name in ("a", "b", "narrow")}, images(6))(x)
    out = model(x)
    assert isinstance(out.output, Together)
    assert list(out.output) == ["narrow", "a", "b"]
    for name, wanted in alone.items():
        for tap in ("omega", "aligned", "recon", "patch_error"):
            assert torch.allclose(getattr(out.output[name], tap), getattr(wanted, tap), rtol=1e-5, atol=1e-6)
    assert torch.allclose(out.cells.recon, alone.recon, atol=1e-6)
    assert torch.allclose(out.cells.error, alone.error, atol=1e-6)


def test_tapped_cells_and_others_come_in_the_order_of_the_cells(cells, made):
    model, x = made(NESTED), images()
    out = model(x)
    assert list(out.cells) == list(model.container.names) == ["a", "b", "c", "fine"]
    assert torch.allclose(out.cells.recon, model.container(x).recon, atol=1e-6)
    assert all(torch.equal(mine, theirs.aligned) for mine, theirs in zip(out.cells.omega, out.cells.values(), strict=True))
    assert out["c"].group.found.keys() == {"omega", "recon", "aligned", "patch_error", "variance"}  # no M where nobody asked


@pytest.mark.parametrize("kind", ["omega", "rows"])
@pytest.mark.parametrize("name", ["a", "fine"])
def test_the_identity_of_a_cell_onto_itself_gives_its_own_reconstruction(cells, kind, name):
    container, x = compose({name: cells[name]}), images()
    out = container(x, TAPS)[name]
    found = relay(kind, fit(kind, out, out), out, out, container, container.names[0], x)
    assert torch.allclose(found.recon, out.recon, atol=1e-5)
    assert torch.allclose(found.patch_error, out.patch_error, rtol=1e-4)
    assert torch.allclose(found.tokens, getattr(out, {"omega": "omega", "rows": "M"}[kind]), atol=1e-5)


@pytest.mark.parametrize("kind", ["omega", "rows"])
def test_two_names_of_one_cell_relay_to_each_other(cells, made, kind):
    nodes = {"out": {**RELAY, "tokens": kind}}
    chosen, composition = parts(cells, nodes)
    model = wire({"a": chosen["a"], "b": chosen["a"]}, composition, images(6))
    out = model(images())
    assert float(model.maps["out"].residual) == pytest.approx(0, abs=1e-12)
    assert torch.allclose(out.output.recon, out["b"].recon, atol=1e-5)


def test_a_relay_decodes_the_mapped_tokens_with_the_targets_rows(cells, made):
    model, x = made({"out": RELAY}), images()
    out, other = model(x), compose([cells["b"]])
    mapped = model.maps["out"](out["a"].omega)
    assert torch.equal(out.output.tokens, mapped)
    wanted = other.decode("mid/b", out["b"].M, (2, 4), mapped)
    assert torch.allclose(out.output.recon, wanted, atol=1e-6)
    error = (wanted - x).square().unflatten(3, (4, 8)).unflatten(2, (2, 8)).mean(dim=(1, 3, 5)).flatten(1)
    assert torch.allclose(out.output.patch_error, error, rtol=1e-4)
    assert not torch.allclose(out.output.recon, out["b"].recon, atol=1e-3)


def test_a_relay_of_rows_forms_and_its_rows_have_length_one(made):
    out = made({"out": {**RELAY, "tokens": "rows"}})(images())
    assert out.output.tokens.shape == out["b"].M.shape == (3, 8, 16, 8)
    assert out.output.recon.shape == (3, 3, 16, 32)
    assert out.output.recon.isfinite().all()


def test_a_finer_source_is_averaged_over_the_targets_regions(made):
    model = made({"out": {"kind": "relay", "source": "fine", "target": "b"}})
    probe, out = model.container(images(6), ("omega",)), model(images())
    assert out.output.grid == (2, 4)
    assert out.output.tokens.shape == (3, 8, 8)
    pooled = pool(probe["fine"].omega, (4, 8), (2, 4)).flatten(0, 1)
    wanted = procrustes.fit(pooled, probe["b"].omega.flatten(0, 1))
    assert torch.allclose(model.maps["out"].rotation, wanted.rotation, atol=1e-5)
    assert torch.allclose(out.output.tokens, wanted(pool(out["fine"].omega, (4, 8), (2, 4))), atol=1e-5)


def test_rows_of_a_finer_grid_are_averaged_row_by_row(cells):
    out = compose([cells["fine"]])(images(), ("M",))["mid/fine"]
    found = paired("rows", out, (2, 4))
    assert found.shape == (3, 8, 12, 8)
    assert torch.allclose(found[:, 0], out.M[:, [0, 1, 8, 9]].mean(dim=1), atol=1e-6)
    assert torch.equal(paired("rows", out, (4, 8)), out.M)


def test_by_error_the_least_has_the_region_and_the_reconstruction_is_put_together():
    one = Hand(1.0, torch.tensor([[0.1, 0.9], [0.5, 0.5]]))
    two = Hand(2.0, torch.tensor([[0.2, 0.2, 0.1, 0.1], [0.6, 0.6, 0.2, 0.2]]), (1, 4))
    found = route(["one", "two"], [one, two], torch.zeros(2, 3, 2, 4), None)
    assert found.grid == (1, 2)
    assert torch.allclose(found.error, torch.tensor([[[0.1, 0.2], [0.9, 0.1]], [[0.5, 0.6], [0.5, 0.2]]]))
    assert found.choice.tolist() == [[0, 1], [0, 1]]
    assert found.weights.tolist() == [[[1, 0], [0, 1]], [[1, 0], [0, 1]]]
    assert found.recon[:, :, :, :2].unique().tolist() == [1]
    assert found.recon[:, :, :, 2:].unique().tolist() == [2]


def test_by_error_over_cells_of_two_finenesses(made):
    out, x = made({"out": {"kind": "route", "of": ["fine", "a", "narrow"]}})(images()), images()
    found = out.output
    errors = [out["a"].patch_error, *(pool(out[n].patch_error[..., None], (4, 8), (2, 4))[..., 0] for n in ("fine", "narrow"))]
    wanted = torch.stack([errors[1], errors[0], errors[2]], dim=2)
    assert found.names == ("fine", "a", "narrow")
    assert torch.equal(found.error, wanted)
    assert torch.equal(found.choice, wanted.argmin(dim=2))
    least = (found.recon - x).square().unflatten(3, (4, 8)).unflatten(2, (2, 8)).mean(dim=(1, 3, 5)).flatten(1)
    assert torch.allclose(least, wanted.amin(dim=2), rtol=1e-4)


class Blind(torch.nn.Module):
    """Scores that favour the first branch, whatever is seen."""

    def forward(self, error, images, grid):
        return torch.tensor([9.0, 1.0, 0.0]).expand(error.shape).clone().requires_grad_()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("by", ["error", "router, trained", "router, in training"])
def test_a_branch_that_fails_is_nobodys_choice(bad, by):
    branches = [Hand(v, torch.tensor([[bad if v == 1 else 0.5, 0.1 * v]])) for v in (1.0, 2.0, 3.0)]
    router = None if by == "error" else Blind().train("training" in by)
    found = route("xyz", branches, torch.zeros(1, 3, 2, 4), router)
    assert found.choice.tolist() == [[1, 0]]
    assert found.weights[0, 0, 0] == 0
    assert torch.allclose(found.weights.sum(dim=2), torch.ones(1, 2))
    assert found.recon.isfinite().all()
    own = Router(3, 3).train("training" in by)
    assert route("xyz", branches, torch.zeros(1, 3, 2, 4), own).recon.isfinite().all()


def test_where_all_fail_the_result_says_so():
    branches = [Hand(v, torch.tensor([[torch.nan, 0.1]])) for v in (1.0, 2.0)]
    for router in (None, Router(2, 3), Router(2, 3).eval()):
        found = route("xy", branches, torch.zeros(1, 3, 2, 4), router)
        assert found.recon[..., :2].isnan().all()
        assert found.recon[..., 2:].isfinite().all()
        assert found.weights.isfinite().all()


def test_a_failing_branch_keeps_its_nan_out_of_a_routers_gradient():
    branches = [Hand(v, torch.tensor([[torch.nan if v == 1 else 0.5, 0.1]])) for v in (1.0, 2.0, 3.0)]
    router = Router(3, 3)
    route("xyz", branches, images(1, (2, 4)), router).recon.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in router.parameters())
    assert sum(p.grad.abs().sum() for p in router.parameters()) > 0


ROUTED = {"out": {**ROUTE, "of": ["a", "fine", "b"], "by": "router"}}


def test_a_router_in_training_is_soft_and_its_gradient_reaches_it_and_the_images(made):
    model, x = made(ROUTED), images().requires_grad_()
    found = model.train()(x).output
    assert torch.allclose(found.weights.sum(dim=2), torch.ones(3, 8))
    assert ((found.weights > 0) & (found.weights < 1)).all()
    branches = [model(x)[name].recon for name in found.names]
    shares = found.weights.unflatten(1, (2, 4)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    wanted = sum(shares[:, None, ..., k] * recon for k, recon in enumerate(branches))
    assert torch.allclose(found.recon, wanted, atol=1e-5)
    F.mse_loss(found.recon, x.detach()).backward()
    assert all(p.grad.norm() > 0 for p in model.parameters())
    assert x.grad.norm() > 0


def test_a_router_at_rest_is_hard(made):
    model, x = made(ROUTED), images()
    soft, hard = model.train()(x).output, model.eval()(x).output
    assert torch.equal(soft.choice, hard.choice)
    assert torch.equal(hard.weights, F.one_hot(soft.choice, 3).float())
    assert not hard.recon.requires_grad
    plane = hard.choice.unflatten(1, (2, 4)).repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    out = model(x)
    for place, name in enumerate(hard.names):
        here = (plane == place).expand_as(x)
        assert torch.equal(hard.recon[here], out[name].recon[here])


def test_a_flat_image_has_a_gradient_too(made):
    x = torch.zeros(2, 3, 16, 16, requires_grad=True)
    made(ROUTED).train()(x).output.recon.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.slow
def test_a_router_learns_and_the_cells_do_not(made):
    model, x = made(ROUTED).train(), images(8)
    digest = model.container.digest
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = F.mse_loss(model(x).output.recon, x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert model.container.digest == digest
    model.container.verify()


def test_routes_of_relays_in_parallels_of_parallels(made):
    model, x = made(NESTED).eval(), images()
    out = model(x)
    assert list(out.output) == ["low", "inner", "swap"]
    assert list(out.output["inner"]) == ["learned.one", "c"]
    assert out.output["swap"] is out["swap"]
    assert out.output["inner"]["learned.one"] is out.nodes["learned.one"]
    assert torch.equal(out.nodes["low"].error[..., 0], out["swap"].patch_error)
    assert torch.equal(out.nodes["learned.one"].error[..., 0], out["down"].patch_error)
    assert set(out.nodes) == set(NESTED)
    assert {node: type(out[node]).__name__ for node in NESTED} == {
        **{"swap": "Relayed", "down": "Relayed", "low": "Routed", "learned.one": "Routed"},
        **{"inner": "Together", "out": "Together"},
    }


def test_a_cell_may_be_the_output(cells):
    out = wire(*parts(cells, {}, "a"))(images())
    assert out.output is out["a"]
    assert out.nodes == {}


@pytest.mark.parametrize("node", NESTED)
def test_a_gradient_passes_through_every_node(made, node):
    model, x = made(NESTED).train(), images().requires_grad_()
    found = model(x)[node]
    while isinstance(found, Together):
        found = found[next(iter(found))]
    found.recon.square().mean().backward()
    assert x.grad.isfinite().all()
    assert all(float(image.norm()) > 0 for image in x.grad)


def test_the_only_parameters_are_the_routers(made):
    model = made(NESTED)
    assert all(name.startswith("routers.") for name, _ in model.named_parameters())
    assert list(made({"out": RELAY}).parameters()) == []
    assert list(made({"out": ROUTE}).parameters()) == []


def memory(container):
    return {buffer.data_ptr() for buffer in container.buffers()}


def test_there_is_one_copy_of_the_weights(made):
    model = made(NESTED)
    own = memory(model.container)
    assert memory(model) == own
    copied = copy.deepcopy(model)
    again = memory(copied.container)
    assert not again & own
    assert memory(copied) == again
    assert torch.equal(copied(images())["low"].recon, model(images())["low"].recon)


def test_a_frame_that_is_fitted_later_counts(made):
    model = made(NESTED)
    model.container.consensus = align(model.container, images(6))
    name = model.container.names[0]
    assert torch.equal(model(images()).cells[name].aligned, model.container(images())[name].aligned)


def test_a_new_model_evaluates(made):
    assert not made(ROUTED).training


@pytest.mark.slow
def test_a_cast_changes_nothing(made):
    model, x = made(NESTED).eval(), images()
    before = model(x)
    model.to(torch.float64)
    after = model(x)
    model.container.verify()
    assert {buffer.dtype for buffer in model.container.buffers()} == {torch.float32}
    for name in ("swap", "down", "low", "learned.one"):
        assert after[name].recon.dtype == torch.float32
        assert torch.equal(after[name].recon, before[name].recon)
    assert model.train()(x)["learned.one"].weights.dtype == torch.float32


@pytest.mark.slow
def test_in_float64(made):
    narrow, wide, x = made(NESTED).eval(), made(NESTED, dtype=torch.float64).eval(), images()
    one, two = narrow(x), wide(x)
    for name in ("swap", "down", "low", "learned.one"):
        assert two[name].recon.dtype == torch.float32
    for name in ("swap", "down"):
        assert torch.allclose(two[name].recon.float(), one[name].recon, atol=1e-4)
    assert wide.train()(x.double())["learned.one"].weights.dtype == torch.float64
    wide(x)["learned.one"].recon.sum().backward()
    assert all(p.grad is not None for p in wide.parameters())


@pytest.mark.slow
def test_a_seed_decides_and_leaves_the_global_state_alone(made):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    one, again, other = (made(NESTED, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    tensors = [name for name, value in one.items() if isinstance(value, torch.Tensor)]
    assert all(torch.equal(one[name], again[name]) for name in tensors)
    assert not all(torch.equal(one[name], other[name]) for name in tensors)


@pytest.mark.slow
def test_the_state_has_routers_lock_and_composition_and_no_weights(cells, made):
    state = made(NESTED).state_dict()
    tensors = {name for name, value in state.items() if isinstance(value, torch.Tensor)}
    documents = {name for name in tensors if name.endswith("_extra_state")}
    assert documents == {"_extra_state", "container._extra_state"}
    assert len(tensors - documents) == 4
    assert all(name.startswith("routers.") for name in tensors - documents)
    assert decoded(state["container._extra_state"], where="")["lock"]["a"]["sha256"] == cells["a"].digest
    other = made(NESTED, seed=5)
    other.load_state_dict(state)
    assert all(torch.equal(other.state_dict()[name], state[name]) for name in tensors)


def test_a_state_of_another_composition_is_refused_and_nothing_is_written(made):
    one, other = made(ROUTED), made({"out": {**ROUTED["out"], "of": ["b", "fine", "a"]}}, seed=3)
    before = {name: p.clone() for name, p in other.named_parameters()}
    with pytest.raises(IntegrityError, match="another composition") as caught:
        other.load_state_dict(one.state_dict())
    assert (caught.value.code, caught.value.exit_code) == ("OTHER_COMPOSITION", 4)
    assert all(torch.equal(p, before[name]) for name, p in other.named_parameters())


def test_a_state_of_other_cells_is_refused(cells, made):
    chosen, composition = parts(cells, {"out": ROUTE})
    other = wire({"a": chosen["a"], "b": cells["c"]}, composition)
    with pytest.raises(IntegrityError, match="other cells") as caught:
        other.load_state_dict(made({"out": ROUTE}).state_dict())
    assert (caught.value.code, caught.value.exit_code) == ("LOCK_MISMATCH", 4)


@pytest.mark.parametrize("name", ["train", "type", "pop", "a.b", "x/y", "x.y/to"])
def test_a_route_may_have_any_name_of_a_composition(made, name):
    model = made({name: {**ROUTE, "by": "router"}}, output=name)
    assert model(images()).output.recon.shape == (3, 3, 16, 32)
    made({name: {**ROUTE, "by": "router"}}, output=name).load_state_dict(model.state_dict())


def test_names_that_are_nowhere(made):
    out = made(NESTED)(images())
    assert "learned.one" in out["inner"]
    assert "nothing" not in out["inner"]
    for found in (out, out["inner"]):
        with pytest.raises(NotFoundError, match="no such cell or node") as caught:
            found["nothing"]
        assert (caught.value.code, caught.value.exit_code) == ("NO_CELL", 3)


UNEQUAL = {"out": {"kind": "relay", "source": "narrow", "target": "b"}}
TOO_COARSE = {"out": {"kind": "relay", "source": "b", "target": "fine"}}
ASKEW = {"out": {"kind": "route", "of": ["a", "odd"]}}
BESIDE = {"out": {"kind": "parallel", "of": ["a", "odd"]}}
BAD = [
    ("cells missing", lambda c: wire({"a": c["a"]}, *parts(c, {"out": ROUTE})[1:]), "PARTS", 2, "missing b"),
    ("a cell too many", lambda c: wire(c, *parts(c, {"out": ROUTE})[1:]), "PARTS", 2, "unknown "),
    ("cells without names", lambda c: wire([c["a"], c["b"]], *parts(c, {"out": ROUTE})[1:]), "PARTS", 2, "missing a, b"),
    ("a relay without a probe", lambda c: wire(*parts(c, {"out": RELAY})), "NO_PROBE", 2, "got out"),
    ("unequal widths", lambda c: wire(*parts(c, UNEQUAL), images(6)), "WIRING", 6, "D is 4 in 'narrow', and 8 in 'b'"),
    (
        "unequal numbers of rows",
        lambda c: wire(*parts(c, {"out": {**RELAY, "source": "fine", "tokens": "rows"}}), images(6)),
        "WIRING",
        6,
        "V is 12 in 'fine', and 16 in 'b'",
    ),
    ("a source that is too coarse", lambda c: wire(*parts(c, TOO_COARSE), images(6)), "WIRING", 6, "2 x 4 patches, is coarser"),
    ("grids that do not nest", lambda c: wire(*parts(c, ASKEW), images(6, (24, 24))), "WIRING", 6, "3 x 3 patches"),
    ("grids that no map can pair", lambda c: wire(*parts(c, BESIDE), images(6, (24, 24))), "GRIDS", 2, "3 x 3"),
    ("a probe of a wrong size", lambda c: wire(*parts(c, {"out": RELAY}), images(6, (12, 16))), "WIRING", 6, "12 x 16"),
    ("a probe without a batch", lambda c: wire(*parts(c, {"out": RELAY}), images(6)[0]), "IMAGE_SHAPE", 2, "(3, 16, 32)"),
    ("a probe that is an array", lambda c: wire(*parts(c, {"out": RELAY}), images(6).numpy()), "IMAGE_SHAPE", 2, "ndarray"),
    ("a grey probe", lambda c: wire(*parts(c, {"out": RELAY}), images(6)[:, :1]), "IMAGE_SHAPE", 2, "(6, 1, 16, 32)"),
    ("too small a probe", lambda c: wire(*parts(c, {"out": RELAY}), images(3)), "FEW_IMAGES", 2, "got 3"),
    ("constant images", lambda c: wire(*parts(c, {"out": RELAY}), torch.zeros(6, 3, 8, 8)), "CONSTANT", 2, "constant tokens"),
    ("half precision", lambda c: wire(*parts(c, {"out": ROUTE}), dtype=torch.float16), "DTYPE", 2, "float16"),
    ("images of a wrong size", lambda c: wire(*parts(c, {"out": ROUTE}))(images(2, (12, 8))), "IMAGE_SIZE", 2, "12 x 8"),
    (
        "maps that are missing",
        lambda c: Wired(compose(parts(c, {"out": RELAY})[0]), parts(c, {"out": RELAY})[1], {}, torch.nn.ModuleDict()),
        "PARTS",
        2,
        "maps do not match the composition",
    ),
    (
        "routers that are missing",
        lambda c: Wired(compose(parts(c, ROUTED)[0]), parts(c, ROUTED)[1], {}, torch.nn.ModuleDict()),
        "PARTS",
        2,
        "routers do not match the composition",
    ),
]


@pytest.mark.parametrize(("attempt", "code", "exit_code", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input(cells, attempt, code, exit_code, words):
    with pytest.raises(BatteriesError) as caught:
        attempt(cells)
    assert (caught.value.code, caught.value.exit_code) == (code, exit_code)
    assert words in str(caught.value)


def test_a_parallel_of_any_grids_needs_no_probe(cells):
    out = wire(*parts(cells, BESIDE))(images(2, (24, 24)))
    assert [cell.grid for cell in out.output.values()] == [(3, 3), (4, 4)]
