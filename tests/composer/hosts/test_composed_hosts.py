"""Hosts around a composition, and what it has in common with a container."""

import pytest
import torch
from torch import nn

from batteries.errors import BatteriesError
from composer import Classifier, Composition, Denoiser, compose, wire
from composer.hosts import FrozenCell, NamingHost
from tests.compatibility import works
from tests.support.hosts import FORM, images


@works("Hosts and their state", "Classifier, Denoiser and FrozenCell around a composition")
def test_hosts_take_the_cells_of_a_composition(cells):
    named = dict(zip("abc", cells, strict=True))
    nodes = {"out": {"kind": "route", "of": ["a", "b", "c"], "by": "router"}}
    composition = Composition.model_validate(
        {"schema_version": "1.0", "output": "out", "cells": {name: f"high/{name}" for name in named}, "nodes": nodes}
    )
    model, container = wire(named, composition), compose(named)
    for kind, more in ((Classifier, (2,)), (Denoiser, ())):
        one, two = (_seeded(lambda k=kind, m=m, more=more: k(m, images(), *more, form=FORM)) for m in (model, container))
        assert torch.equal(one(images()), two(images()))
        two.load_state_dict(one.state_dict())
    assert torch.equal(FrozenCell(model, "b")(images()).recon, FrozenCell(container, "b")(images()).recon)
    train_of = NamingHost(FrozenCell(model), images(), 2, FORM)
    assert set(train_of.state_dict()) == {name for name in train_of.state_dict() if name.split(".")[0] != "container"}
    for attempt in (
        lambda: Classifier(nn.Linear(2, 2), images(), 2),
        lambda: FrozenCell(None),
        lambda: Denoiser(cells, images()),
    ):
        with pytest.raises(BatteriesError) as caught:
            attempt()
        assert caught.value.code == "MODEL"


def _seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def test_one_surface(cells):
    named = dict(zip("abc", cells, strict=True))
    model, container = wire(named, Composition.parallel({name: f"high/{name}" for name in named}), images()), compose(named)
    container.consensus = model.consensus
    for name in ("names", "lock", "scale", "digest", "device", "consensus"):
        assert getattr(model, name) == getattr(container, name), name
    assert model.spec("a") == container.spec("a")
    assert str(model.explain((8, 8))) == str(container.explain((8, 8)))
    assert model.cells("a", "c").names == container.cells("a", "c").names == ("a", "c")
    assert torch.equal(model.tokens(images())["b"].omega, container.tokens(images())["b"].omega)
    for found in (model, container):
        found.verify()
        found.consensus = None
        assert found.container.names == ("a", "b", "c")
    for taps in (("omega", "recon"), ("M", "S", "omega", "recon"), ("omega",)):
        one, two = model(images(), taps), container(images(), taps)
        for out in (one, two):
            assert out["a"] is out.cells["a"]
            assert list(out.output) == list(out.nodes["all"]) == ["a", "b", "c"]
        for name in {"omega", "patch_error", "recon", "error"} if "recon" in taps else {"omega"}:
            ours, theirs = getattr(one, name), getattr(two, name)
            assert all(map(torch.equal, ours, theirs)), name
        for tap in taps:
            assert torch.equal(getattr(one.output["b"], tap), getattr(two.output["b"], tap))
    for found in (model, container):
        with pytest.raises(BatteriesError, match="NO_TAP"):
            found(images(), ("nothing",))
        with pytest.raises(BatteriesError, match="NO_TAP"):
            _ = found(images(), ("omega",)).error
