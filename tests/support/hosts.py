"""Hosts of small cells, trained for a moment."""

import torch
from torch.nn import functional as F

from batteries import CellSpec
from composer import Classifier, compose
from composer.hosts import StreamForm

SPEC = CellSpec(V=12, D=4, patch_size=4, hidden=8)
FORM = StreamForm(width=8, blocks=1)
DOCUMENTS = ("_extra_state", "container._extra_state")


def images(n=8, seed=0):
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def host(cells, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(compose(cells), images(), 2, form=FORM)


def train(made, steps=10, after=lambda: None):
    before = made.stem.weight.detach().clone()
    optimiser = torch.optim.Adam(made.parameters(), lr=1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(made(images()), torch.arange(8) % 2).backward()
        optimiser.step()
        after()
    assert not torch.equal(made.stem.weight, before)
    made.container.verify()


def same(one, two):
    two.container.verify()
    return torch.equal(one(images()), two(images()))
