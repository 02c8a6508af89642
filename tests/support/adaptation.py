"""A small cell with content, its task of seconds, and hosts whose gradients destroy it."""

import dataclasses

import torch
from torch import nn

import batteries
from batteries import CellSpec
from batteries.data.sources import NoiseSource
from composer.adaptation import OwnDomain, naming
from composer.adaptation.adapt import plan_of
from composer.adaptation.adapting import Job
from composer.hosts import StreamForm, TaskSize, residual_host
from tests.support.viability import one_of_a_group

SPEC = CellSpec(V=16, D=4, patch_size=16, hidden=32, smooth_width=4)
LITTLE = TaskSize(train=64, test=32, crops=16)
HOST = residual_host(StreamForm(width=16, blocks=1))


def small_cell(name="small-64"):
    """A cell trained for a moment, which explains some of its noise."""
    plan = batteries.Plan(spec=SPEC, size=64, steps=30, batch=8, optimiser="muon", boost=0.0)
    run = batteries.train(plan, NoiseSource(), "noise16-64")
    label = batteries.Label(name=name, version="1.0.0", family="small", license="Apache-2.0", description="A test.")
    return batteries.package(run, NoiseSource(), label, "batteries train high/small-64 --noise --steps 30")


def job(cell, hold, *, factory=HOST, task=None, steps=6, rate=1e-3, optimiser="adam", seed=0, domain=None):
    """Everything of an adaptation of a few steps."""
    plan = plan_of(cell, optimiser, rate=rate, steps=steps, batch=8, seed=seed, size=64)
    return Job(cell, factory, task or naming(numbers=LITTLE), domain or little_domain(), hold, plan, 1e-2)


def little_domain():
    """Noise, and two images of each type held out."""
    probe = one_of_a_group("noise16-64")
    return OwnDomain(NoiseSource(), probe.images, probe.cluster, "two images of a type")


class Destroyer(nn.Module):
    """A host that pays for a first mode of the cell that is as large as can be: rows that all point one way."""

    def __init__(self, cell, sample, classes):
        super().__init__()
        self._cell = (cell,)
        self.bias = nn.Parameter(torch.zeros(classes))
        self.restores = not classes

    def forward(self, images):
        S = self._cell[0].tokens(images).S
        share = (S[..., 0].square() / S.square().sum(dim=-1)).mean(dim=1)
        return self.bias + 50 * (share[:, None] - 1) * torch.linspace(1, -1, len(self.bias))


class Broken(Destroyer):
    """A host whose output is not a number after its first call."""

    calls = 0

    def forward(self, images):
        self.calls += 1
        return super().forward(images) * (1.0 if self.calls < 2 else float("nan"))


def first_class(task):
    """The task with (almost) all images of the first class, which the destroyer answers by one mode."""
    images, labels = task.train
    labels = torch.where(torch.arange(len(labels)) > 1, 0, labels)
    labels[0] = task.classes - 1
    return dataclasses.replace(task, train=(images, labels), test=(task.test[0][:4], labels[:4]))
